"""`vitalloom health`: the health check of a running process."""

import asyncio
from pathlib import Path

import pytest

from runtime.errors import NoSuchAddress
from runtime.health import HealthAnswer, check, main
from runtime.metrics import HttpConfig, serving
from simulators.broker import free_port
from tests.runtime.test_metrics import Worker

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("trouble", ["", "Kafka takes nothing since 12 s"])
def test_exit_status_and_text_are_those_of_the_process(trouble: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> list[int]:
        async with serving(HttpConfig(listen="127.0.0.1:0"), process="worker", source=Worker(trouble=trouble)) as url:
            port = url.rpartition(":")[2]
            return [await asyncio.to_thread(main, where, alive=False) for where in (url, port, f"localhost:{port}")] + [
                await asyncio.to_thread(main, port, alive=True)
            ]

    *ready, alive = asyncio.run(story())

    assert ready == [1 if trouble else 0] * 3
    assert alive == 0
    assert capsys.readouterr().out.splitlines()[0] == (trouble or "ok")


def test_process_that_does_not_answer_is_unhealthy() -> None:
    answer = check(str(free_port()), timeout_s=1)

    assert answer == HealthAnswer(False, answer.text)
    assert answer.text.endswith("is it running?")


@pytest.mark.parametrize("where", ["worker", "https://127.0.0.1:9102", "127.0.0.1:port", "127.0.0.1:0"])
def test_invalid_address_is_an_error_that_names_the_accepted_forms(where: str) -> None:
    with pytest.raises(NoSuchAddress, match="a port, host:port or http://host:port"):
        check(where)

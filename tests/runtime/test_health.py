"""`vitalloom health`: a process asked from where there is neither shell nor curl."""

import asyncio
from pathlib import Path

import pytest

from runtime.errors import NoSuchAddress
from runtime.health import Answer, ask, main
from runtime.metrics import HttpConfig, serving
from simulators.broker import free_port
from tests.runtime.test_metrics import Worker

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("trouble", ["", "Kafka takes nothing since 12 s"])
def test_the_status_is_that_of_the_process_and_the_text_its_own(
    trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> list[int]:
        async with serving(HttpConfig(listen="127.0.0.1:0"), process="worker", watched=Worker(trouble=trouble)) as url:
            port = url.rpartition(":")[2]
            return [await asyncio.to_thread(main, where, alive=False) for where in (url, port, f"localhost:{port}")] + [
                await asyncio.to_thread(main, port, alive=True)
            ]

    *ready, alive = asyncio.run(story())

    assert ready == [1 if trouble else 0] * 3
    assert alive == 0
    assert capsys.readouterr().out.splitlines()[0] == (trouble or "ok")


def test_nobody_there_is_not_well() -> None:
    answer = ask(str(free_port()), within_s=1)

    assert answer == Answer(False, answer.text)
    assert answer.text.endswith("is it running?")


@pytest.mark.parametrize("where", ["worker", "https://127.0.0.1:9102", "127.0.0.1:port", "127.0.0.1:0"])
def test_what_is_no_address_is_said_to_be_none(where: str) -> None:
    with pytest.raises(NoSuchAddress, match="a port, host:port or http://host:port"):
        ask(where)

"""The health and metrics endpoint: for Prometheus, for health checks, and while the event loop hangs."""

import asyncio
import contextlib
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime import metrics
from runtime.config import load
from runtime.end_dates import DAY_MS, EndDate, EndDateWatch
from runtime.errors import CannotListen, ConfigError
from runtime.metrics import Figure, Figures, HttpConfig, serving
from runtime.version import __version__
from stream.config import REGISTRY_LISTEN, IngestConfig, StoreConfig, WorkerConfig
from tests.patience import PATIENCE_S

ANYWHERE = HttpConfig(listen="127.0.0.1:0")


class Worker:
    """A process with the given metrics and the given problem."""

    def __init__(self, figures: Figures | None = None, trouble: str = "") -> None:
        self.values, self.problem = figures or Figures(), trouble

    def figures(self) -> Figures:
        return self.values

    def trouble(self) -> str:
        return self.problem


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - a URL of our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def requested(source: Worker, *paths: str) -> list[tuple[int, str]]:
    async def story() -> list[tuple[int, str]]:
        async with serving(ANYWHERE, process="worker", source=source) as url:
            return [await asyncio.to_thread(get, url + path) for path in paths]

    return asyncio.run(story())


def test_prometheus_reads_the_base_set_and_the_metrics_of_the_process() -> None:
    figures = Figures(
        received=7,
        sent=5,
        errors={"commit": 1},
        discarded={"signature": 2},
        lag={"0": 3, "1": 0},
        progress_age_s=0.25,
        more=(
            Figure("points", "Written.", 4, (("lane", "events"),), grows=True),
            Figure("points", "Written.", 6, (("lane", "alarms"),), grows=True),
        ),
    )

    ((status, text),) = requested(Worker(figures), "/metrics")

    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("vitalloom_")
    }
    assert status == 200
    assert found == {
        ("vitalloom_build_info", "worker", __version__): 1,
        ("vitalloom_ready",): 1,
        ("vitalloom_received_total",): 7,
        ("vitalloom_sent_total",): 5,
        ("vitalloom_errors_total", "commit"): 1,
        ("vitalloom_discarded_total", "signature"): 2,
        ("vitalloom_lag_records", "0"): 3,
        ("vitalloom_lag_records", "1"): 0,
        ("vitalloom_progress_age_seconds",): 0.25,
        ("vitalloom_points_total", "events"): 4,
        ("vitalloom_points_total", "alarms"): 6,
    }
    assert "process_resident_memory_bytes" in text


def test_ready_answers_with_a_status_and_one_line() -> None:
    healthy = requested(Worker(), "/ready", "/live", "/elsewhere")
    unhealthy = requested(Worker(trouble="Kafka takes nothing\nsince 12 s"), "/ready", "/live")

    assert [status for status, _ in healthy] == [200, 200, 404]
    assert unhealthy == [(503, "Kafka takes nothing since 12 s\n"), (200, "ok\n")]


def test_blocked_event_loop_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STALLED_S", 0.05)
    monkeypatch.setattr(metrics, "DEAD_S", 0.05)
    monkeypatch.setattr(metrics, "_PULSE_S", 0.01)
    answers: list[tuple[int, str]] = []

    async def story() -> None:
        async with serving(ANYWHERE, process="worker", source=Worker()) as url:
            before = await asyncio.to_thread(get, f"{url}/ready")

            def look() -> None:
                while (found := get(f"{url}/ready"))[0] == 200:
                    time.sleep(0.01)
                answers.extend([before, found, get(f"{url}/live")])

            looking = threading.Thread(target=look)
            looking.start()
            looking.join(timeout=PATIENCE_S)  # blocks the thread of the event loop

    asyncio.run(story())

    (before, _), (ready, why), (live, _) = answers
    assert (before, ready, live) == (200, 503, 503)
    assert why.startswith("the event loop has been blocked for")


def test_number_of_concurrent_requests_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_MAX_REQUESTS", 3)

    def crowd(url: str) -> tuple[int, tuple[int, str]]:
        host, port = metrics.address(url.removeprefix("http://"))
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.create_connection((host, port)))
            beside = stack.enter_context(socket.create_connection((host, port)))
            beside.settimeout(PATIENCE_S)
            refused = len(beside.recv(1))
            threads = sum("process_request_thread" in one.name for one in threading.enumerate())
            assert threads == 3
        deadline = time.monotonic() + PATIENCE_S
        while True:  # the clients have disconnected; their threads end by themselves
            with contextlib.suppress(OSError):
                return refused, get(f"{url}/ready")
            assert time.monotonic() < deadline

    async def story() -> tuple[int, tuple[int, str]]:
        async with serving(ANYWHERE, process="worker", source=Worker()) as url:
            return await asyncio.to_thread(crowd, url)

    assert asyncio.run(story()) == (0, (200, "ok\n"))


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_port_in_use_is_an_error_that_names_the_key_and_the_fix(taken: str) -> None:
    async def story() -> None:
        async with serving(HttpConfig(listen=taken), process="worker", source=Worker()):
            raise AssertionError("two on one port")

    with pytest.raises(CannotListen, match=r'http\.listen = 127.* another worker .* port 0 .* http\.listen = ""'):
        asyncio.run(story())


def test_empty_address_disables_the_endpoint() -> None:
    async def story() -> str:
        before = threading.active_count()
        async with serving(HttpConfig(), process="edge", source=Worker()) as url:
            assert threading.active_count() == before
            return url

    assert asyncio.run(story()) == ""


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    http: HttpConfig = HttpConfig()


@pytest.mark.parametrize("listen", ["localhost", ":9101", "127.0.0.1:http", "127.0.0.1:70000"])
def test_invalid_address_is_a_configuration_error(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port.*\$\.http"):
        load(ProcessConfig, None, env_prefix="TEST", environment={"TEST__HTTP__LISTEN": listen})


def test_address_may_be_ipv6() -> None:
    assert metrics.address("[::1]:9101") == ("::1", 9_101)


def test_document_lists_the_base_set_and_the_ports() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    figures = Figures(progress_age_s=0.0)

    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.families(figures, process="worker", ready=True)
    }

    assert names == set(re.findall(r"^\| `(vitalloom_\w+)` \|", text, re.MULTILINE))
    for kind in (IngestConfig, WorkerConfig, StoreConfig):
        assert f"| {kind().http.listen} |" in text
    assert f"| {REGISTRY_LISTEN} (" in text


def ending(*ends: EndDate, notes: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """What a process answers on the day 1,000 that knows of these ends: `/ready` and `/metrics`."""

    async def story() -> list[tuple[int, str]]:
        watch = EndDateWatch(lambda: ends, lambda: 1_000 * DAY_MS, lambda: notes)
        async with serving(ANYWHERE, process="desk", source=Worker(), ends=watch) as url:
            return [await asyncio.to_thread(get, url + path) for path in ("/ready", "/metrics")]

    return asyncio.run(story())


def an_end(what: str, *, days: int) -> EndDate:
    return EndDate(what=what, ends_ms=(1_000 + days) * DAY_MS, renewed_by="a person", fix="replace it")


def test_what_ends_soon_is_named_below_ok_and_measured() -> None:
    (status, text), (_, measured) = ending(an_end("desk", days=10), an_end("root", days=300), notes=("no\nbroker",))

    assert (status, text) == (
        200,
        "ok\ndesk expires in 10 days, on 1972-10-07; fix: replace it\nno broker\n",
    )
    samples = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(measured)
        for one in family.samples
    }
    assert samples["vitalloom_expires_in_seconds", "desk"] == 864_000
    assert samples["vitalloom_expiry_urgency", "desk"] == 2
    assert samples["vitalloom_expiry_urgency", "root"] == 0
    assert samples["vitalloom_ready",] == 1


def test_what_has_ended_makes_a_process_unready() -> None:
    (status, text), (_, measured) = ending(an_end("desk", days=-1))

    assert status == 503
    assert text.startswith("desk expired 1 day ago; fix: replace it\n")
    assert 'vitalloom_expires_in_seconds{what="desk"} -86400.0' in measured
    assert "vitalloom_ready 0.0" in measured

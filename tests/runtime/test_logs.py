"""Log lines as text and as JSON."""

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest

from runtime import logs


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_its_facts() -> None:
    out = io.StringIO()
    logs.set_up(stream=out)

    logs.get("edge.agent").info("broker connected", host="10.0.0.7", port=8883)

    assert "info edge.agent: broker connected host=10.0.0.7 port=8883" in out.getvalue()


def test_json_lines_can_be_read_by_machines() -> None:
    out = io.StringIO()
    logs.set_up(form="json", stream=out)

    logs.get("edge.agent").warning("outbox filling", used=0.71)

    line = json.loads(out.getvalue())
    assert (line["event"], line["used"], line["level"]) == ("outbox filling", 0.71, "warning")


def test_times_in_json_are_in_utc_in_every_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    out = io.StringIO()
    logs.set_up(form="json", stream=out)
    record = logging.makeLogRecord(
        {"msg": "stopped", "created": 1_700_000_000.25, "levelno": logging.INFO, "levelname": "INFO"}
    )

    logging.getLogger().handle(record)
    monkeypatch.undo()
    time.tzset()

    assert json.loads(out.getvalue())["at"] == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize("form", ["plain", "json"])
def test_exc_info_false_means_no_exception(form: logs.LogFormat) -> None:
    out = io.StringIO()
    logs.set_up(form=form, stream=out)

    logging.getLogger("asyncio").error("unclosed connection", exc_info=False)  # as asyncio itself does

    assert "unclosed connection" in out.getvalue()


def test_events_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    logs.set_up(level="WARNING", stream=out)

    logs.get("edge.agent").info("broker connected")

    assert out.getvalue() == ""

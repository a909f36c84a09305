"""Lines for the person on call."""

import io
import json
import logging
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
    logs.set_up(as_json=True, stream=out)

    logs.get("edge.agent").warning("outbox filling", used=0.71)

    line = json.loads(out.getvalue())
    assert (line["event"], line["used"], line["level"]) == ("outbox filling", 0.71, "warning")


def test_quiet_levels_cost_nothing_and_say_nothing() -> None:
    out = io.StringIO()
    logs.set_up(level="WARNING", stream=out)

    logs.get("edge.agent").info("broker connected")

    assert out.getvalue() == ""

"""Structured logging for the person on call: one line per change of state, no names and no values of patients.

`get` returns a logger whose methods take an event and facts as keywords; `set_up` chooses the line format once.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

LogFormat: TypeAlias = Literal["plain", "json"]
LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
"""The values that configurations may have; any other value is an error that names its key."""

_FACTS = "vitalloom_facts"


class Log:
    """A structured logger: ``log.info("broker connected", host="10.0.0.7")``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **facts: Any) -> None:
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._write(logging.ERROR, event, facts)

    def _write(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FACTS: facts})


def get(name: str) -> Log:
    """The logger of a module.

    Args:
        name: the name of the module.
    """
    return Log(name)


def set_up(*, level: LogLevel = "INFO", form: LogFormat = "plain", stream: TextIO | None = None) -> None:
    """Configure the logging of this process. Called once, by `main`.

    Args:
        form: `plain`: text with the local time; `json`: one JSON object per line, with the time in UTC.
    """
    out = logging.StreamHandler(stream if stream is not None else sys.stderr)
    out.setFormatter(_JsonLines() if form == "json" else _PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(level)


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, _FACTS, {})
        tail = "".join(f" {key}={value}" for key, value in facts.items())
        line = f"{self.formatTime(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}{tail}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FACTS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

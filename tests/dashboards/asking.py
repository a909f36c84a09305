"""Queries as Grafana sends them: variables and macros are replaced, then the query runs on a real InfluxDB.

A substitute for Grafana, which is not available in these tests. The replacement follows its source code.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from stream.config import InfluxConfig
from stream.store.influx import read_token

_MACRO = re.compile(r"([a-zA-Z]+)\.([a-zA-Z]+)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_TO_ESCAPE = re.compile(r"[-/\\^$*+?.()|\[\]{}]")


def interpolated(
    flux: str, variables: Mapping[str, Sequence[str]], *, start_ms: int, stop_ms: int, interval_s: int = 60
) -> str:
    """A query after replacement, as Grafana sends it to the database."""

    def value_of(found: "re.Match[str]") -> str:
        name = found[1] or found[3]
        values = variables[name]  # KeyError if no dashboard defines it
        if found[2] == "regex":
            if list(values) == [".*"]:
                return ".*"  # the value of "All" is not escaped
            escaped = [_TO_ESCAPE.sub(lambda sign: "\\" + sign[0], value) for value in values]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        return values[0] if len(values) == 1 else "{" + ",".join(values) + "}"

    text = _VARIABLE.sub(value_of, flux)
    macros = {
        "timeRangeStart": _moment(start_ms),
        "timeRangeStop": _moment(stop_ms),
        "windowPeriod": _go_duration(interval_s),
        "bucket": '"vitals"',
        "defaultBucket": '"vitals"',
        "organization": '"test"',
    }
    for whole, last in {(found[0], found[2]) for found in _MACRO.finditer(text)}:
        if last in macros:
            text = text.replace(whole, macros[last])
    return text


async def ask(config: InfluxConfig, flux: str) -> list[list[dict[str, Any]]]:
    """Tables of rows. An empty list: no rows."""
    async with InfluxDBClientAsync(config.url, token=read_token(config), org=config.org, timeout=60_000) as client:
        tables = await client.query_api().query(flux)
    return [
        [
            {name: value for name, value in one.values.items() if name not in ("result", "table")}
            for one in table.records
        ]
        for table in tables
    ]


def _moment(at_ms: int) -> str:
    text = datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def _go_duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3_600)
    minutes, rest = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"

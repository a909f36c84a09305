"""Access to InfluxDB: create buckets, tasks and tokens; write lines; recompute windows that late readings changed."""

import contextlib
import csv
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
from influxdb_client import BucketRetentionRules, InfluxDBClient, Permission, PermissionResource
from influxdb_client.client.flux_csv_parser import FluxCsvParserException, FluxQueryException
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from runtime.hardening import write_private
from stream.config import InfluxConfig
from stream.errors import DatabaseFailed, DatabaseUnusable
from stream.refusals import Cause, cause_of, retry_after_s
from stream.store.buckets import Buckets
from stream.store.line_protocol import HOUR, MINUTE, READING, window_line
from vitals.messages import WindowOutdated
from vitals.signs import INDEX, VitalSign

HOUR_MS: Final = 3_600_000
_DAY_S: Final = 86_400
_TASK: Final = "vitalloom hours"
_CONNECTION_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError)
_QUERY_ERRORS: Final = (FluxQueryException, FluxCsvParserException, csv.Error, ValueError, KeyError)  # in an answer 200
_DROPPED: Final = re.compile(r"\bdropped[= ](\d+)\b")
CHECK: Final = "store_check accepted=true"
"""A line that InfluxDB can only refuse if it refuses every line; it gets the time of the server."""


class Database:
    """A connection to InfluxDB. Use as an asynchronous context manager."""

    def __init__(self, config: InfluxConfig) -> None:
        self.buckets = Buckets.of(config)
        self._config = config
        self._client: InfluxDBClientAsync | None = None
        self._accepted: dict[str, str] = {}  # by bucket: a line that was accepted

    async def __aenter__(self) -> "Database":
        self._client = InfluxDBClientAsync(
            self._config.url,
            token=read_token(self._config),
            org=self._config.org,
            timeout=self._config.timeout_ms,
            enable_gzip=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def write(self, bucket: str, lines: Sequence[str]) -> None:
        """Write lines; returns when InfluxDB has them on disk.

        Without lines no request is sent: InfluxDB answers an empty request with 400, as if a line were invalid.

        Raises:
            DatabaseFailed: some of the lines may be written; its cause says what to do.
        """
        assert self._client is not None  # noqa: S101 - used as a context manager
        body = "\n".join(lines)
        if not body.strip():
            return
        self._follow_token(self._client)
        try:
            accepted = await self._client.write_api().write(bucket, record=body)
        except ApiException as error:
            raise self._refused(error, bucket) from error
        except _CONNECTION_ERRORS as error:
            raise self._no_answer(error) from error
        if not accepted:
            raise DatabaseFailed(
                f"{self._config.url} answers a write neither with 204 nor with an error; it is not InfluxDB, "
                "correct influx.url",
                cause=Cause.CONFIGURATION,
            )
        self._accepted[bucket] = lines[-1]

    async def check_write(self, bucket: str) -> None:
        """Write a line that was accepted before, which changes nothing, or one that only a failed server refuses.

        Raises:
            DatabaseFailed: the bucket accepts no line now.
        """
        known = self._accepted.get(bucket)
        if known is not None:
            try:
                await self.write(bucket, [known])
            except DatabaseFailed as error:
                if error.cause is not Cause.CONTENT:  # it may have become too old
                    raise
            else:
                return
        await self.write(bucket, [CHECK])

    async def check_query(self) -> None:
        """Ask for the newest second of the bucket of events.

        Raises:
            DatabaseFailed: the database answers no query now.
        """
        await self.query(f'from(bucket: "{self.buckets.raw}") |> range(start: -1s) |> limit(n: 1)')

    async def query(self, flux: str) -> list[Any]:
        """Run a Flux query; returns the records of all tables.

        Raises:
            DatabaseFailed: its cause says what to do.
        """
        assert self._client is not None  # noqa: S101 - used as a context manager
        self._follow_token(self._client)
        try:
            tables = await self._client.query_api().query(flux)
        except ApiException as error:
            raise self._refused(error, self.buckets.raw) from error
        except _CONNECTION_ERRORS as error:
            raise self._no_answer(error) from error
        except _QUERY_ERRORS as error:
            problem = f"InfluxDB at {self._config.url} failed within its answer: {str(error)[:300]}"
            raise DatabaseFailed(problem, cause=cause_of(200, str(error))) from error
        return [record for table in tables for record in table.records]

    def _follow_token(self, client: InfluxDBClientAsync) -> None:
        """Use the token that is in the file now; while it cannot be read, the one before."""
        with contextlib.suppress(DatabaseUnusable):
            client.api_client.set_default_header("Authorization", f"Token {read_token(self._config)}")

    async def recompute_windows(
        self, stay_id: str, outdated: Collection[WindowOutdated]
    ) -> list[tuple[WindowOutdated, str]]:
        """Lines of minutes of one patient that late readings have changed, computed from all readings.

        Raises:
            DatabaseFailed: its cause says what to do.
        """
        first = min(one.start_ms for one in outdated)
        last = max(one.start_ms + one.width_ms for one in outdated)
        signs = sorted({one.sign for one in outdated})
        wanted = " or ".join(f'r._field == "{sign}"' for sign in (*signs, "unusable"))
        found = await self.query(
            f'from(bucket: "{self.buckets.raw}") |> range(start: {_flux_time(first)}, stop: {_flux_time(last)}) '
            f'|> filter(fn: (r) => r._measurement == "{READING}" and r.binding == "{stay_id}" and ({wanted})) '
            '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        rows = [(int(one["_time"].timestamp() * 1_000), one.values) for one in found]
        lines = []
        for one in sorted(outdated, key=lambda one: (one.start_ms, one.sign)):
            values = [
                value
                for at_ms, row in rows
                if one.start_ms <= at_ms < one.start_ms + one.width_ms and (value := _usable(row, one.sign)) is not None
            ]
            if values:
                lines.append((one, _minute_line(stay_id, one, values)))
        return lines

    async def recompute_hours(self, stay_id: str, hours_ms: Collection[int]) -> None:
        """Recompute hours of one patient from their minutes.

        Args:
            hours_ms: the beginnings of the hours.

        Raises:
            DatabaseFailed: its cause says what to do.
        """
        start, stop = _flux_time(min(hours_ms)), _flux_time(max(hours_ms) + HOUR_MS)
        await self.query(hours_flux(self.buckets, start=start, stop=stop, stay_id=stay_id))

    def _refused(self, error: ApiException, bucket: str) -> DatabaseFailed:
        headers, text = error.headers or {}, _message(error)
        found = _DROPPED.search(text)
        return DatabaseFailed(
            f"InfluxDB at {self._config.url} {_problem_and_fix(error, self._config, bucket)}",
            cause=cause_of(error.status or 0, text),
            status=error.status,
            after_s=retry_after_s(headers.get("Retry-After", ""), now_ms=int(time.time() * 1_000)),
            dropped=int(found.group(1)) if found else 0,
        )

    def _no_answer(self, error: Exception) -> DatabaseFailed:
        # A connection that cannot be opened tells nothing about the request. One that ends, or an answer that does not
        # come, may be the doing of the request itself.
        away = isinstance(error, aiohttp.ClientConnectorError)
        return DatabaseFailed(
            f"InfluxDB at {self._config.url} does not answer ({str(error) or type(error).__name__})",
            cause=Cause.UNAVAILABLE if away else Cause.UNCLEAR,
        )


def _usable(row: dict[str, Any], sign: str) -> float | None:
    """The value of a sign in a stored reading; None if it has none, or another program has stored something else."""
    value, unusable = row.get(sign), row.get("unusable") or 0
    if not isinstance(value, int | float) or not isinstance(unusable, int | float):
        return None
    return None if int(unusable) & 1 << INDEX[VitalSign(sign)] else float(value)


def _minute_line(stay_id: str, window: WindowOutdated, values: list[float]) -> str:
    mean = sum(round(value * 1_000) for value in values) / len(values) / 1_000
    return window_line(
        stay_id,
        window.sign,
        window.start_ms,
        count=len(values),
        mean=mean,
        minimum=min(values),
        maximum=max(values),
    )


def hours_flux(buckets: Buckets, *, start: str, stop: str, stay_id: str = "") -> str:
    """Flux that aggregates minutes into hours (means weighted by counts), without hours that began before `start`."""
    one = f' and r.binding == "{stay_id}"' if stay_id else ""
    return f"""from(bucket: "{buckets.minutes}")
  |> range(start: {start}, stop: {stop})
  |> filter(fn: (r) => r._measurement == "{MINUTE}"{one})
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> group(columns: ["binding", "sign"])
  |> window(every: 1h)
  |> reduce(
    identity: {{count: 0, total: 0.0, min: 1000000000.0, max: -1000000000.0}},
    fn: (r, accumulator) => ({{
      count: accumulator.count + r.count,
      total: accumulator.total + r.mean * float(v: r.count),
      min: if r.min < accumulator.min then r.min else accumulator.min,
      max: if r.max > accumulator.max then r.max else accumulator.max,
    }}))
  |> map(fn: (r) => ({{r with _measurement: "{HOUR}", _time: r._start, mean: r.total / float(v: r.count)}}))
  |> filter(fn: (r) => int(v: r._time) % {HOUR_MS * 1_000_000} == 0)
  |> to(
    bucket: "{buckets.hours}", timeColumn: "_time", tagColumns: ["binding", "sign"],
    fieldFn: (r) => ({{count: r.count, mean: r.mean, min: r.min, max: r.max}}))"""


class PreparedDatabase(NamedTuple):
    """The result of `prepare_database`: descriptions of what was created, and the files of tokens."""

    made: list[str]
    tokens: dict[str, Path]


def prepare_database(
    config: InfluxConfig, *, retention_days: int, aggregate_days: int, tokens: Path | None = None
) -> PreparedDatabase:
    """Create the buckets, the task and the tokens that are missing. The configured token needs the rights to do so.

    Args:
        retention_days: of the bucket of events.
        aggregate_days: retention of the buckets of minutes and hours.
        tokens: folder for `writer.token` and `reader.token`, each for these buckets; a file with content is kept.

    Raises:
        DatabaseUnusable: what is wrong, and the fix.
    """
    buckets, made, files = Buckets.of(config), [], {}
    keep = {buckets.raw: retention_days, buckets.minutes: aggregate_days, buckets.hours: aggregate_days}
    with InfluxDBClient(config.url, token=read_token(config), org=config.org, timeout=config.timeout_ms) as client:
        try:
            (org,) = client.organizations_api().find_organizations(org=config.org)
            there = {}
            for name, days in keep.items():
                found = client.buckets_api().find_bucket_by_name(name)
                if found is None:
                    rules = BucketRetentionRules(type="expire", every_seconds=days * _DAY_S)
                    found = client.buckets_api().create_bucket(bucket_name=name, org=org, retention_rules=rules)
                    made.append(f"bucket {name} ({days} days)")
                there[name] = found
            if not any(one.name == task_name(config) for one in client.tasks_api().find_tasks(limit=500)):
                flux = hours_flux(buckets, start="-3h", stop="now()")
                client.tasks_api().create_task_every(task_name(config), flux, "10m", org)
                made.append(f"task {task_name(config)!r}")
            if tokens is not None:
                for name, actions in (("writer", ("read", "write")), ("reader", ("read",))):
                    allowed = [
                        Permission(action=action, resource=PermissionResource(type="buckets", id=one.id, org_id=org.id))
                        for one in there.values()
                        for action in actions
                    ]
                    file = tokens / f"{name}.token"
                    if not file.exists() or not file.stat().st_size:
                        token = client.authorizations_api().create_authorization(org.id, allowed).token
                        write_private(file, token.encode())
                        made.append(f"token {file}")
                    files[name] = file
        except ApiException as error:
            raise DatabaseUnusable(config.url, _problem_and_fix(error, config, buckets.raw)) from error
        except (HTTPError, OSError, ValueError) as error:
            raise DatabaseUnusable(config.url, f"does not answer ({type(error).__name__}); is it up?") from error
    return PreparedDatabase(made, files)


def read_token(config: InfluxConfig) -> str:
    """Raises DatabaseUnusable, naming the file."""
    try:
        return config.token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DatabaseUnusable(
            config.url,
            f"cannot read the token file {config.token_file} ({error.strerror}); correct influx.token_file",
        ) from error


def task_name(config: InfluxConfig) -> str:
    """Name of the task that aggregates minutes into hours."""
    return f"{_TASK} of {config.bucket}"


def _flux_time(at_ms: int) -> str:
    return f"time(v: {at_ms * 1_000_000})"


def _message(error: ApiException) -> str:
    return str(getattr(error, "message", "") or error.reason or "")[:300]


def _problem_and_fix(error: ApiException, config: InfluxConfig, bucket: str) -> str:
    texts = {
        401: f"does not know the token in {config.token_file}; make another: vitalloom store init",
        403: f"does not allow this with the token in {config.token_file}; use one with the right permissions",
        404: f"has no bucket {bucket} in organisation {config.org}; make it: vitalloom store init",
    }
    return texts.get(error.status, f"answers {error.status}: {_message(error)}")

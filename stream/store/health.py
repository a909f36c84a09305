"""Health of the store writer: its figures, and why records do not reach InfluxDB."""

from collections.abc import Mapping

from runtime.clock import Clock
from runtime.metrics import Figure, Figures
from stream.progress import STUCK_MS, age_s, copy_counts, duration, lasting, sum_counts
from stream.store.counts import WriterCounts


class StoreHealth:
    """Health of `vitalloom store run`.

    Args:
        counts: by topic group, a set of Kafka topics that is written independently of the others.
    """

    def __init__(self, counts: Mapping[str, WriterCounts], clock: Clock) -> None:
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        now_ms = self._clock.mono_ms()
        groups = list(self._counts.values())
        ages = [age_s(now_ms, one.turned_ms) for one in groups]
        return Figures(
            received=sum(one.records for one in groups),
            sent=sum(one.points for one in groups),
            errors={"database": sum(one.retries for one in groups), "kafka": sum(one.restarts for one in groups)},
            discarded=sum_counts(copy_counts(one.discarded) for one in groups),
            lag={source: lag for one in groups for source, lag in dict(one.lag).items()},
            progress_age_s=None if None in ages else max(age for age in ages if age is not None),
            more=(
                Figure("stored", "Frames reported to ingest as stored.", sum(one.stored for one in groups), grows=True),
                *(figure for name, one in self._counts.items() for figure in _group_figures(name, one, now_ms)),
            ),
        )

    def trouble(self) -> str:
        now_ms = self._clock.mono_ms()
        problems = (topic_group_trouble(name, one, now_ms) for name, one in self._counts.items())
        return next((problem for problem in problems if problem), "")


def topic_group_trouble(name: str, counts: WriterCounts, now_ms: int) -> str:
    """Why the records of a topic group do not reach InfluxDB; empty if they do."""
    if counts.waiting_since_ms is not None:
        waited = duration(now_ms, counts.waiting_since_ms)
        return f"{name}: InfluxDB has accepted nothing for {waited}: {counts.why_waiting}{lasting(counts.waiting_for)}"
    if counts.kafka_refuses_since_ms is not None:
        waited = duration(now_ms, counts.kafka_refuses_since_ms)
        return f"{name}: Kafka has taken no report for {waited}: {counts.why_kafka}"
    if not counts.turned_ms:
        return f"{name}: Kafka has not answered yet"
    if now_ms - counts.turned_ms > STUCK_MS:
        why = f": {counts.why_kafka}" if counts.why_kafka else ""
        return f"{name}: no progress for {duration(now_ms, counts.turned_ms)}{why}"
    if now_ms - counts.heard_ms > STUCK_MS:
        return f"{name}: Kafka has not answered for {duration(now_ms, counts.heard_ms)}"
    return ""


def _group_figures(name: str, counts: WriterCounts, now_ms: int) -> tuple[Figure, ...]:
    waiting_s = 0 if counts.waiting_since_ms is None else (now_ms - counts.waiting_since_ms) / 1_000
    label = (("topics", name),)
    return (
        Figure("points", "Points written to InfluxDB.", counts.points, label, grows=True),
        Figure(
            "windows_recomputed",
            "One-minute windows recomputed because of late readings.",
            counts.windows_recomputed,
            label,
            grows=True,
        ),
        Figure("database_waiting_seconds", "Time since InfluxDB stopped accepting; 0: it accepts.", waiting_s, label),
        Figure(
            "dead_letters",
            "Records that InfluxDB refused or that could not be decoded.",
            counts.dead_letters,
            label,
            grows=True,
        ),
    )

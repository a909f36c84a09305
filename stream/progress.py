"""What the processes of a data centre say of themselves, from the counters that they keep: figures, and what is wrong.

Asked from another thread: everything here is read once and copied.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from runtime.clock import Clock
from runtime.metrics import Figure, Figures

if TYPE_CHECKING:  # one process alone needs no Kafka, and no process needs all of these
    from stream.embedded import stream
    from stream.embedded.process import Stream
    from stream.engine.partitions import Progress
    from stream.ingest import kafka_ingest
    from stream.site.http import Requests
    from stream.store import writer
    from wire.lanes import Lanes

STUCK_MS: Final = 15_000
"""What has not moved for so long is stuck: the clients give up on a request after ten seconds, and try again."""
BEHIND_MS: Final = 30_000
"""What waits for so long while nothing is committed."""


class IngestWatch:
    """`vitalloom ingest`."""

    def __init__(self, stream: "Stream", counts: "kafka_ingest.Counts", clock: Clock) -> None:
        self._stream = stream
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        counts = self._counts
        return _heard(
            self._stream.lanes, counts, self._clock, sent=counts.sent, errors={"kafka": counts.failed_sends}
        )  # fmt: skip

    def trouble(self) -> str:
        return trouble_of_lanes(self._stream.lanes) or trouble_of_ingest(self._counts, self._clock.mono_ms())


def trouble_of_ingest(counts: "kafka_ingest.Counts", now_ms: int) -> str:
    """Why what edges send does not get into the log, or what is stored not back to them."""
    if counts.waiting_since_ms is not None:
        return f"Kafka has taken nothing for {_span(now_ms, counts.waiting_since_ms)}"
    if not counts.turned_ms or not counts.heard_ms:
        return "Kafka does not answer yet"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"what edges send has not been handed on for {_span(now_ms, counts.turned_ms)}"
    if now_ms - counts.heard_ms > STUCK_MS:
        return f"Kafka has not answered for {_span(now_ms, counts.heard_ms)}"
    return ""


class StreamWatch:
    """`vitalloom stream`, which keeps what it hears itself."""

    def __init__(self, stream: "Stream", counts: "stream.Counts", clock: Clock) -> None:
        self._stream = stream
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        counts = self._counts
        return _heard(
            self._stream.lanes, counts, self._clock, sent=counts.stored, errors={"commit": counts.failed_commits}
        )  # fmt: skip

    def trouble(self) -> str:
        return trouble_of_lanes(self._stream.lanes) or trouble_of_stream(self._counts, self._clock.mono_ms())


def trouble_of_stream(counts: "stream.Counts", now_ms: int) -> str:
    """Why what edges send is not kept."""
    if not counts.turned_ms:
        return "it has just been started"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"what edges send has not been kept for {_span(now_ms, counts.turned_ms)}"
    return ""


def trouble_of_lanes(lanes: "Lanes | None") -> str:
    """Why no edge is heard."""
    if lanes is not None and lanes.connected:
        return ""
    return f"the MQTT broker is not reached ({(lanes and lanes.trouble) or 'not yet'})"


def _heard(
    lanes: "Lanes | None",
    counts: "kafka_ingest.Counts | stream.Counts",
    clock: Clock,
    *,
    sent: int,
    errors: dict[str, int],
) -> Figures:
    """What the two have in common that hear edges."""
    connected = lanes is not None and lanes.connected
    grown = (
        ("stored", "What was signed for as stored.", counts.stored),
        ("duplicates", "What came again and was known to be stored.", counts.duplicates),
        ("heartbeats", "Of edges.", counts.heartbeats),
        ("edge_alarms", "Alarms that edges found by themselves.", counts.edge_alarms),
        ("dead_letters", "What was authentic and could not be used.", counts.dead_letters),
        ("tails_missing", "Sessions whose newest frames do not come.", counts.tails_missing),
    )
    return Figures(
        received=counts.received,
        sent=sent,
        errors=errors,
        discarded=_copied(counts.rejected),
        lag={"mqtt": 0 if lanes is None else lanes.waiting},
        progress_age_s=_age_s(clock.mono_ms(), counts.turned_ms),
        more=(
            Figure("connected", "1 while the MQTT broker is reached, on both lanes.", connected),
            *(Figure(name, about, number, grows=True) for name, about, number in grown),
        ),
    )


class WorkerWatch:
    """`vitalloom worker`, on either engine."""

    def __init__(self, progress: "Progress", clock: Clock) -> None:
        self._progress = progress
        self._clock = clock

    def figures(self) -> Figures:
        progress, now_ms = self._progress, self._clock.mono_ms()
        since_ms = progress.turned_ms if progress.behind_since_ms is None else progress.behind_since_ms
        return Figures(
            received=progress.records,
            sent=progress.sent,
            errors={
                "apply": progress.failed_records,
                "commit": progress.failed_commits,
                "judge": progress.defects,
                "take": progress.failed_takes,
            },
            discarded=_copied(progress.discarded),
            lag={str(partition): lag for partition, lag in dict(progress.lag).items()},
            progress_age_s=_age_s(now_ms, min(progress.turned_ms, since_ms)),
            more=(
                Figure("partitions", "That are ours and can be read.", len(progress.lag)),
                Figure("patients", "Of these partitions.", progress.patients),
                Figure("commits", "Transactions of states, events and offsets.", progress.commits, grows=True),
                Figure("recovery_seconds", "How long the last take of a partition took.", progress.recovery_ms / 1_000),
            ),
        )

    def trouble(self) -> str:
        return trouble_of_worker(self._progress, self._clock.mono_ms())


def trouble_of_worker(progress: "Progress", now_ms: int) -> str:
    """Why it judges nothing. One that was given no partition stands by, and that is well."""
    if not progress.turned_ms:
        return "Kafka does not answer yet"
    if now_ms - progress.turned_ms > STUCK_MS:
        return f"nothing has moved for {_span(now_ms, progress.turned_ms)}"
    if not progress.assigned:
        return "the group has not said yet which partitions are ours"
    untaken = dict(progress.untaken)
    if untaken:
        partition = min(untaken)
        return f"partition {partition} is ours and cannot be read for {_span(now_ms, untaken[partition])}"
    if now_ms - progress.heard_ms > STUCK_MS:
        return f"Kafka has not answered for {_span(now_ms, progress.heard_ms)}"
    behind_ms = progress.behind_since_ms
    if behind_ms is not None and now_ms - behind_ms > BEHIND_MS:
        return f"readings wait, and nothing has been committed for {_span(now_ms, behind_ms)}"
    return ""


class StoreWatch:
    """`vitalloom store run`."""

    def __init__(self, counts: "dict[str, writer.Counts]", clock: Clock) -> None:
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        lanes, now_ms = self._counts, self._clock.mono_ms()
        every = list(lanes.values())
        ages = [_age_s(now_ms, one.turned_ms) for one in every]

        def waiting_s(one: "writer.Counts") -> float:
            return 0 if one.waiting_since_ms is None else (now_ms - one.waiting_since_ms) / 1_000

        return Figures(
            received=sum(one.records for one in every),
            sent=sum(one.points for one in every),
            errors={"database": sum(one.retries for one in every), "kafka": sum(one.restarts for one in every)},
            discarded=_summed(_copied(one.discarded) for one in every),
            lag={place: lag for one in every for place, lag in dict(one.lag).items()},
            progress_age_s=None if None in ages else max(age for age in ages if age is not None),
            more=(
                Figure(
                    "stored", "Frames that edges were told are stored.", sum(one.stored for one in every), grows=True
                ),
                *(
                    Figure(name, about, number(one), (("lane", lane),), grows=grows)
                    for name, about, number, grows in (
                        ("points", "Written to the database.", _points, True),
                        ("windows_again", "Minutes worked out again.", _windows, True),
                        ("database_waiting_seconds", "Since it takes nothing; 0: it takes.", waiting_s, False),
                    )
                    for lane, one in lanes.items()
                ),
            ),
        )

    def trouble(self) -> str:
        now_ms = self._clock.mono_ms()
        return next((found for name, one in self._counts.items() if (found := trouble_of_lane(name, one, now_ms))), "")


def trouble_of_lane(name: str, counts: "writer.Counts", now_ms: int) -> str:
    """Why some topics do not get into the database."""
    if counts.waiting_since_ms is not None:
        return (
            f"{name}: the database has taken nothing for {_span(now_ms, counts.waiting_since_ms)}: {counts.why_waiting}"
        )
    if not counts.turned_ms:
        return f"{name}: Kafka does not answer yet"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"{name}: nothing has moved for {_span(now_ms, counts.turned_ms)}"
    if now_ms - counts.heard_ms > STUCK_MS:
        return f"{name}: Kafka has not answered for {_span(now_ms, counts.heard_ms)}"
    return ""


def _points(counts: "writer.Counts") -> int:
    return counts.points


def _windows(counts: "writer.Counts") -> int:
    return counts.windows_again


class BrokerKept(msgspec.Struct):
    """How the registry gets on with keeping the broker's files true."""

    problem: str = ""
    errors: int = 0
    turned_ms: int = 0  # monotonic


class RegistryWatch:
    """`vitalloom registry serve`."""

    def __init__(self, requests: "Requests", kept: BrokerKept, clock: Clock) -> None:
        self._requests = requests
        self._kept = kept
        self._clock = clock

    def figures(self) -> Figures:
        requests = self._requests
        return Figures(
            received=requests.received,
            sent=requests.granted,
            errors={"broker": self._kept.errors},
            discarded=_copied(requests.refused),
            progress_age_s=_age_s(self._clock.mono_ms(), self._kept.turned_ms),
        )

    def trouble(self) -> str:
        now_ms, kept = self._clock.mono_ms(), self._kept
        if kept.problem:
            return kept.problem
        if not kept.turned_ms:
            return "it has just been started"
        if now_ms - kept.turned_ms > STUCK_MS:
            return f"the broker's files have not been looked after for {_span(now_ms, kept.turned_ms)}"
        return ""


def _copied(counted: Mapping[str, int]) -> dict[str, int]:
    """In one step, for the other thread goes on counting; reasons as they are written."""
    return {str(key): number for key, number in dict(counted).items()}


def _summed(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)


def _age_s(now_ms: int, at_ms: int) -> float | None:
    return max(0, now_ms - at_ms) / 1_000 if at_ms else None


def _span(now_ms: int, since_ms: int) -> str:
    return f"{max(0, now_ms - since_ms) / 1_000:.0f} s"

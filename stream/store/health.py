"""Health of the store writer: its figures, and why nothing reaches InfluxDB."""

from collections.abc import Mapping

from runtime.clock import Clock
from runtime.metrics import Figure, Figures
from stream.progress import STUCK_MS, age_s, copied, span, summed
from stream.store.writer import WriterCounts


class StoreHealth:
    """Health of `vitalloom store run`.

    Args:
        counts: by lane, a group of Kafka topics that is written independently of the others.
    """

    def __init__(self, counts: Mapping[str, WriterCounts], clock: Clock) -> None:
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        now_ms = self._clock.mono_ms()
        lanes = list(self._counts.values())
        ages = [age_s(now_ms, one.turned_ms) for one in lanes]
        return Figures(
            received=sum(one.records for one in lanes),
            sent=sum(one.points for one in lanes),
            errors={"database": sum(one.retries for one in lanes), "kafka": sum(one.restarts for one in lanes)},
            discarded=summed(copied(one.discarded) for one in lanes),
            lag={place: lag for one in lanes for place, lag in dict(one.lag).items()},
            progress_age_s=None if None in ages else max(age for age in ages if age is not None),
            more=(
                Figure(
                    "stored", "Frames that edges were told are stored.", sum(one.stored for one in lanes), grows=True
                ),
                *(figure for lane, one in self._counts.items() for figure in _of_lane(lane, one, now_ms)),
            ),
        )

    def trouble(self) -> str:
        now_ms = self._clock.mono_ms()
        return next((found for name, one in self._counts.items() if (found := trouble_of_lane(name, one, now_ms))), "")


def trouble_of_lane(name: str, counts: WriterCounts, now_ms: int) -> str:
    """Why the records of some topics do not reach InfluxDB; empty if they do."""
    if counts.waiting_since_ms is not None:
        return (
            f"{name}: InfluxDB has accepted nothing for {span(now_ms, counts.waiting_since_ms)}: {counts.why_waiting}"
        )
    if not counts.turned_ms:
        return f"{name}: Kafka has not answered yet"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"{name}: no progress for {span(now_ms, counts.turned_ms)}"
    if now_ms - counts.heard_ms > STUCK_MS:
        return f"{name}: Kafka has not answered for {span(now_ms, counts.heard_ms)}"
    return ""


def _of_lane(lane: str, counts: WriterCounts, now_ms: int) -> tuple[Figure, ...]:
    waiting_s = 0 if counts.waiting_since_ms is None else (now_ms - counts.waiting_since_ms) / 1_000
    label = (("lane", lane),)
    return (
        Figure("points", "Points written to InfluxDB.", counts.points, label, grows=True),
        Figure("windows_again", "Minutes recomputed for late readings.", counts.windows_again, label, grows=True),
        Figure("database_waiting_seconds", "Since when InfluxDB accepts nothing; 0: it does.", waiting_s, label),
    )

"""Health of a worker: its figures, and why it judges no readings."""

from runtime.clock import Clock
from runtime.metrics import Figure, Figures
from stream.engine.partitions import WorkerProgress
from stream.progress import BEHIND_MS, STUCK_MS, age_s, copy_counts, duration, lasting


class WorkerHealth:
    """Health of `vitalloom worker`, on either event loop."""

    def __init__(self, progress: WorkerProgress, clock: Clock) -> None:
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
                "acquire": progress.failed_acquisitions,
            },
            discarded=copy_counts(progress.discarded),
            lag={str(partition): lag for partition, lag in dict(progress.lag).items()},
            progress_age_s=age_s(now_ms, min(progress.turned_ms, since_ms)),
            more=(
                Figure("partitions", "Assigned partitions that can be read.", len(progress.lag)),
                Figure("patients", "Patients of the assigned partitions.", progress.patients),
                Figure("commits", "Transactions of states, events and offsets.", progress.commits, grows=True),
                Figure(
                    "recovery_seconds",
                    "Time that restoring the last assigned partition took.",
                    progress.recovery_ms / 1_000,
                ),
            ),
        )

    def trouble(self) -> str:
        return worker_trouble(self._progress, self._clock.mono_ms())


def worker_trouble(progress: WorkerProgress, now_ms: int) -> str:
    """Why no reading is judged. A worker without a partition is a stand-by, which is no trouble."""
    if not progress.turned_ms:
        return "Kafka has not answered yet"
    if now_ms - progress.turned_ms > STUCK_MS:
        return f"no progress for {duration(now_ms, progress.turned_ms)}"
    if not progress.assigned:
        return "no partition assignment from the consumer group yet"
    unreadable = dict(progress.unreadable)
    if unreadable:
        partition = min(unreadable)
        return f"partition {partition} is assigned and could not be read for {duration(now_ms, unreadable[partition])}"
    if now_ms - progress.heard_ms > STUCK_MS:
        return f"Kafka has not answered for {duration(now_ms, progress.heard_ms)}"
    behind_ms = progress.behind_since_ms
    if behind_ms is not None and now_ms - behind_ms > BEHIND_MS:
        why = f": {progress.why_failed}{lasting(progress.fails_for)}" if progress.why_failed else ""
        return f"readings are waiting and nothing has been committed for {duration(now_ms, behind_ms)}{why}"
    return ""

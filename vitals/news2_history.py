"""NEWS2 of one patient over the last two hours, one score each half hour: for "2 h ago 3" in the text of an alarm."""

from typing import Any, Final

from vitals.news2 import News2
from vitals.risk import explain_news2

STEP_MS: Final = 30 * 60_000
KEPT_MS: Final = 2 * 3_600_000


class News2History:
    """Scores that are at least half an hour apart, oldest first."""

    __slots__ = ("_scores",)

    def __init__(self) -> None:
        self._scores: list[list[int]] = []  # [at_ms, at_least, 1 if complete]

    def add(self, at_ms: int, score: News2) -> None:
        """Keep a score if the newest one is half an hour old; forget those that are too old."""
        if not self._scores or at_ms - self._scores[-1][0] >= STEP_MS:
            self._scores.append([at_ms, score.at_least, int(score.total is not None)])
            while self._scores[0][0] < at_ms - KEPT_MS - STEP_MS:
                del self._scores[0]

    def explain(self, score: News2, now_ms: int) -> str:
        """A score in one line, compared with the oldest one that is at least half an hour old."""
        earlier = next((one for one in self._scores if one[0] <= now_ms - STEP_MS), None)
        if earlier is None:
            return explain_news2(score, None, now_ms)
        return explain_news2(score, (earlier[1], earlier[0]), now_ms, earlier_complete=bool(earlier[2]))

    def points(self) -> tuple[tuple[int, int], ...]:
        """(`at_ms`, `at_least`) of every score, oldest first."""
        return tuple((at_ms, at_least) for at_ms, at_least, _ in self._scores)

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self._scores = [[at_ms + by_ms, *rest] for at_ms, *rest in self._scores]

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode."""
        return self._scores

    def load_state(self, state: list[Any]) -> None:
        """Replace the scores with those of `to_state`."""
        self._scores = state

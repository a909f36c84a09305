"""A patient's own normal at each activity: an athlete's heart at rest is not what it is in training.

It adds to `vitals.baseline` of the whole day and never replaces it: a value that is unlike either of them is unlike the
patient. Time here is the time that the patient has spent at the activity, so that a week without training forgets
nothing. What is measured while the patient recovers belongs to no activity.
"""

from typing import Any, Final, NamedTuple

from vitals.activity import PatientActivity
from vitals.baseline import Baseline
from vitals.messages import Activity
from vitals.signs import INDEX, SIGNS, VitalSign

_LONGEST_STEP_MS: Final = (
    60_000  # of two values at one activity; what lies between those that are further apart is unknown
)


class Unlike(NamedTuple):
    """How far a value is from what is normal for the patient at the same activity."""

    usual: float
    deviations: float  # 0 or more
    at: str  # " at rest"


class ActivityBaselines:
    """The baselines of one patient by activity and sign.

    Args:
        activity: what the patient does.
        is_on: whether the plan asks for it; if not, nothing is learned.
    """

    __slots__ = ("_activity", "_by_place", "is_on")

    def __init__(self, activity: PatientActivity, is_on: bool) -> None:
        self._activity = activity
        self.is_on = is_on
        self._by_place: dict[
            tuple[Activity, VitalSign], tuple[Baseline, int, int]
        ] = {}  # with the time there, and when

    def learn(self, sign: VitalSign, value: float, at_ms: int) -> None:
        """Learn from one usable value that came in order."""
        if not self.is_on:
            return
        current = self._activity.settled_at(at_ms)
        if current is Activity.UNKNOWN:
            return
        baseline, spent_ms, last_ms = self._by_place.get((current, sign)) or (Baseline(), 0, at_ms)
        spent_ms += min(max(at_ms - last_ms, 0), _LONGEST_STEP_MS)
        baseline.update(spent_ms, value)
        self._by_place[current, sign] = (baseline, spent_ms, at_ms)

    def unlike(self, sign: VitalSign, value: float, at_ms: int) -> Unlike | None:
        """How far a value is from normal; None if that is not known."""
        if not self._by_place:
            return None
        current = self._activity.settled_at(at_ms)
        found = self._by_place.get((current, sign))
        z = None if found is None else found[0].z(value)
        if found is None or z is None or found[0].mean is None:
            return None
        return Unlike(found[0].mean, abs(z), f" {current.phrase}")

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self._by_place = {
            place: (baseline, spent_ms, last_ms + by_ms)
            for place, (baseline, spent_ms, last_ms) in self._by_place.items()
        }

    def to_state(self) -> list[Any]:
        """What msgspec can encode."""
        return [
            [int(activity), INDEX[sign], baseline.to_state(), spent_ms, last_ms]
            for (activity, sign), (baseline, spent_ms, last_ms) in self._by_place.items()
        ]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self._by_place = {
            (Activity(activity), SIGNS[index].sign): (Baseline.from_state(baseline), spent_ms, last_ms)
            for activity, index, baseline, spent_ms, last_ms in state
        }

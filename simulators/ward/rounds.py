"""Nurses of a ward do rounds: they see each patient as often as NEWS2 asks for, and enter what they see at the desk.

They use the desk's API with a login of their own, like real ones. Rounds are made at whole five minutes of simulated
time, when every reading before is stored, so that a ward of the same seed has the same scores at every speed.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from simulators.stories import START_MS
from simulators.ward.alarm_desk import AlarmDeskPart
from simulators.ward.pace import Pace
from simulators.wearable import Body
from stream.errors import DeskCommandFailed
from vitals.measuring_interval import TWELVE_HOURLY, interval_at
from vitals.view import PatientView

GRID_MS: Final = 300_000
"""Rounds begin at multiples of this."""
NURSES: Final = ("anna", "ben")
LATE_SHARE: Final = 0.1
"""Of rounds, that are late because a nurse is busy elsewhere."""

_EARLY_SHARE: Final = 0.85  # a nurse comes when so much of the interval is over
_MOST_LATE_MS: Final = 40 * 60_000
_AT_ONCE: Final = 8  # entries
_WITHIN_S: Final = 20.0
_LOOK_S: Final = 0.01


class RoundCounts(msgspec.Struct):
    """What nurses have done."""

    entered: int = 0  # observations that the desk has confirmed
    late: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)  # by what the desk said


class RoundPatient(NamedTuple):
    """One patient on the round."""

    number: int  # of the story
    stay_id: str
    is_cuffed: bool = True  # a device measures the blood pressure


class Rounds:
    """When each patient is to be seen, and what is entered then.

    Args:
        body: the state of a patient by number; None: it is not known, and nothing is entered.
        view: what the data centre knows of a stay at a time; decides how often NEWS2 asks for a round.
    """

    def __init__(
        self,
        patients: Sequence[RoundPatient],
        desk: AlarmDeskPart,
        pace: Pace,
        *,
        seed: int,
        body: Callable[[int], Body | None],
        view: Callable[[str, int], PatientView],
    ) -> None:
        self.counts = RoundCounts()
        self._patients = patients
        self._desk = desk
        self._pace = pace
        self._seed = seed
        self._body = body
        self._view = view
        self._seen_ms: dict[str, int] = {}  # last round, by stay
        self._visits: Counter[str] = Counter()
        self._next_look_ms = START_MS

    async def make(self, at_ms: int) -> None:
        """Make the rounds that are due at a moment of the story, before its readings are sent."""
        if at_ms < self._next_look_ms:
            return
        self._next_look_ms = (at_ms // GRID_MS + 1) * GRID_MS
        await self._pace.drained(within_s=_WITHIN_S)
        due = [one for one in self._patients if self._is_due(one, at_ms)]
        for first in range(0, len(due), _AT_ONCE):
            await asyncio.gather(*(self._see(one, at_ms) for one in due[first : first + _AT_ONCE]))
        if due:
            await self.sent()

    async def sent(self) -> None:
        """Wait until the data centre has all that was entered, or `_WITHIN_S` are over."""
        deadline = time.monotonic() + _WITHIN_S
        while self._desk.unsent_observations and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)

    def _is_due(self, patient: RoundPatient, at_ms: int) -> bool:
        seen_ms = self._seen_ms.get(patient.stay_id)
        if seen_ms is None:
            return True
        score = self._view(patient.stay_id, at_ms).news2
        interval_ms = TWELVE_HOURLY if score is None else interval_at(score)
        return at_ms - seen_ms >= interval_ms * _EARLY_SHARE + self._lateness_ms(patient)

    def _lateness_ms(self, patient: RoundPatient) -> int:
        drawn = self._draw(patient, "late")
        return drawn.randrange(_MOST_LATE_MS) if drawn.random() < LATE_SHARE else 0

    async def _see(self, patient: RoundPatient, at_ms: int) -> None:
        body = self._body(patient.number)
        if body is None:
            return
        self.counts.late += self._lateness_ms(patient) > 0 and patient.stay_id in self._seen_ms
        self._seen_ms[patient.stay_id] = at_ms
        drawn = self._draw(patient, "values")
        self._visits[patient.stay_id] += 1
        entered = observed(body, drawn, is_cuffed=patient.is_cuffed) | {"id": drawn.randbytes(16).hex(), "at_ms": at_ms}
        client = self._desk.client(NURSES[patient.number % len(NURSES)])
        try:
            await asyncio.to_thread(client.observe, patient.stay_id, entered)
        except DeskCommandFailed as error:
            self.counts.refused[str(error)] += 1
        else:
            self.counts.entered += 1

    def _draw(self, patient: RoundPatient, what: str) -> random.Random:
        return random.Random(f"{self._seed} {what} {patient.number} {self._visits[patient.stay_id]}")


def observed(body: Body, drawn: random.Random, *, is_cuffed: bool) -> dict[str, Any]:
    """What a nurse enters of a body: breaths in half a minute, temperature, and the pressure where no cuff is worn."""
    flow = round(body.oxygen)
    values: dict[str, Any] = {
        "consciousness": body.consciousness.letter,
        "supplemental_oxygen": float(flow),
        "respiratory_rate": float(max(2 * round(body.respiratory_rate / 2), 0)),
        "temperature": round(body.temperature + drawn.gauss(0, 0.1), 1),
        "confirmed": True,  # the body is as ill as it is
    }
    if flow:
        values["oxygen_device"] = "nasal cannula" if flow <= 4 else "mask" if flow <= 15 else "high flow"
    if not is_cuffed:
        values["systolic_bp"] = float(round(body.systolic_bp + drawn.gauss(0, 3)))
        values["diastolic_bp"] = float(min(round(body.diastolic_bp + drawn.gauss(0, 3)), values["systolic_bp"] - 5))
    return values

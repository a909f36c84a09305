"""What people observe at the bed, entered at the desk: checked, kept in the book, and forwarded like an answer.

An observation is durable before it is confirmed. Its id is made by whoever enters it, so a repeated request is answered
as done and changes nothing.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from runtime.logs import get
from stream.desk.book import DeskBook
from stream.desk.desk_clock import DeskClock
from stream.errors import DeskRequestRefused
from stream.records import ObservationRecord
from vitals.alarms import ClockText
from vitals.entry_limits import FUTURE_MS, problems, time_problem
from vitals.messages import Observation
from wire.errors import NoSuchStay
from wire.stays import KnownStay, Stays, find_stay

MOST_SHOWN: Final = 100
"""Observations of a stay that are listed, at most."""

_MOST_REMEMBERED: Final = 1_000
_MINUTE_MS: Final = 60_000

_log = get(__name__)


class EnteredObservation(NamedTuple):
    """One observation of the book, and what has become of it."""

    observation: Observation
    corrected_by: Observation | None
    is_sent: bool  # to the patient's monitor


class Observing:
    """Observations at one desk.

    Args:
        stays: stays of the site, for names of beds and patients.
        clock_text: writes times in texts.
        on_entered: called when there is something to forward.
    """

    def __init__(
        self, book: DeskBook, clock: DeskClock, stays: Stays, *, clock_text: ClockText, on_entered: Callable[[], None]
    ) -> None:
        self._book = book
        self._clock = clock
        self._stays = stays
        self._clock_text = clock_text
        self._on_entered = on_entered

    def find(self, name: str) -> KnownStay:
        """The stay of a bed, patient or id. Raises DeskRequestRefused: none goes on, or more than one."""
        try:
            return find_stay(name, self._stays(), clock=self._clock_text)
        except NoSuchStay as error:
            raise DeskRequestRefused(409 if error.is_known else 404, str(error)) from error

    def enter(self, stay: KnownStay, entered: Observation, *, is_confirmed: bool = False) -> Observation:
        """Keep an observation and forward it. Durable when it returns; the same one again changes nothing.

        Args:
            stay: as `find` returned it.
            entered: its times by the wall clock; `by` is the user who is logged in.
            is_confirmed: the person has confirmed that extreme values are right.

        Returns:
            The observation as it stands in the book.

        Raises:
            DeskRequestRefused: it cannot be right, or its id belongs to another observation; says why.
            CommitFailed: nothing was kept.
        """
        now_ms = self._clock.wall_ms()
        self._check_values(entered, is_confirmed=is_confirmed)
        with self._book.transaction():
            before = self._book.observations.get(entered.observation_id)
            if before is not None:
                return _repeated(before, entered)
            self._check_time(stay, entered, now_ms)
            self._check_correction(entered)
            kept = replace(entered, at_ms=min(entered.at_ms, now_ms), entered_ms=now_ms, heard_ms=now_ms)
            self._book.observations.put(kept)
            self._book.entries.put_observation(ObservationRecord(message=kept), self._clock.now_ms())
        _log.info("observation entered", observation=kept.observation_id.hex()[:8], by=kept.by)
        self._on_entered()
        return kept

    def of(self, stay_id: str, most: int = MOST_SHOWN) -> list[EnteredObservation]:
        """The last observations of a stay that were entered here, newest first, with their corrections."""
        waiting = {one.alarm_id for one in self._book.entries.all()}
        return [
            EnteredObservation(
                one, self._book.observations.correction_of(one.observation_id), one.observation_id not in waiting
            )
            for one in self._book.observations.of(stay_id, min(most, MOST_SHOWN))
        ]

    def _check_values(self, entered: Observation, *, is_confirmed: bool) -> None:
        for problem in problems(entered):
            if not problem.is_extreme:
                raise DeskRequestRefused(400, problem.text)
            if not is_confirmed:
                raise DeskRequestRefused(422, problem.text)

    def _check_time(self, stay: KnownStay, entered: Observation, now_ms: int) -> None:
        if problem := time_problem(entered.at_ms, now_ms):
            raise DeskRequestRefused(400, problem)
        if entered.at_ms < stay.began_ms - FUTURE_MS:  # the registry may be on another machine
            began = self._clock_text(stay.began_ms)
            raise DeskRequestRefused(
                400, f"the patient is monitored since {began}; the observation is from before that"
            )

    def _check_correction(self, entered: Observation) -> None:
        if not entered.corrects:
            return
        before = self._book.observations.get(entered.corrects)
        if before is None:
            raise DeskRequestRefused(
                404, "the observation to correct was not entered at this desk; correct it where it was entered"
            )
        if before.stay_id != entered.stay_id:
            raise DeskRequestRefused(
                409, "the observation to correct is of another patient; withdraw it there, and enter it here"
            )
        later = self._book.observations.correction_of(entered.corrects)
        if later is not None:
            raise DeskRequestRefused(
                409,
                f"that observation was corrected by {later.by} at {self._clock_text(later.entered_ms)} already; "
                f"correct {later.observation_id.hex()[:8]}",
            )


class EntryRate:
    """At most so many entries a minute for each person, so that a script that went mad does not fill the record.

    Args:
        most: entries a minute.
        mono_ms: monotonic clock.
    """

    def __init__(self, most: int, mono_ms: Callable[[], int]) -> None:
        self._most = most
        self._mono_ms = mono_ms
        self._recent: OrderedDict[str, deque[int]] = OrderedDict()

    def count(self, person: str) -> None:
        """Count an entry. Raises DeskRequestRefused: there were too many in the last minute."""
        now_ms = self._mono_ms()
        recent = self._recent.setdefault(person, deque())
        self._recent.move_to_end(person)
        while recent and recent[0] <= now_ms - _MINUTE_MS:
            recent.popleft()
        if len(recent) >= self._most:
            wait_s = max(1, (recent[0] + _MINUTE_MS - now_ms) // 1_000)
            raise DeskRequestRefused(
                429, f"more than {self._most} entries in a minute; try again in {wait_s} s", retry_s=wait_s
            )
        recent.append(now_ms)
        while len(self._recent) > _MOST_REMEMBERED:
            self._recent.popitem(last=False)


def _repeated(before: Observation, again: Observation) -> Observation:
    """What is in the book, if the same was entered again."""
    same_times = replace(again, at_ms=before.at_ms, entered_ms=before.entered_ms, heard_ms=before.heard_ms)
    if again.off_until_ms is not None and before.off_until_ms is not None:
        same_times = replace(same_times, off_until_ms=before.off_until_ms)
    if same_times != before:
        raise DeskRequestRefused(
            409, "this id belongs to another observation; enter it with an id of its own, which a new request makes"
        )
    return before

"""What people observe and enter at this edge: judged here at once, kept like an alarm, forwarded to the data centre.

The loop of the agent applies entries between two batches. An entry is confirmed when it is on disk.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from edge.counts import AgentCounts
from edge.errors import EntryRefused, ExtremeEntry
from edge.intake import Intake
from edge.keeper import Keeper
from edge.outbox import Keep
from edge.patients import EdgePatients
from edge.people import MOST_NAME_CHARACTERS, MOST_PIN_CHARACTERS, EntryDoor
from runtime import logs
from vitals.entry_form import EntryForm
from vitals.entry_limits import FUTURE_MS, in_words, problems, time_problem
from vitals.messages import Observation
from wire.codec import encode, from_observation
from wire.envelope import FrameClass
from wire.errors import NoSuchStay
from wire.identity import Directory
from wire.stays import KnownStay, find_stay, stays_of

CONFIRMED_WITHIN_S: Final = 10.0
MOST_WAITING: Final = 32
KEPT: Final = 500
"""Observations that are listed, known again, and can be corrected; until the agent restarts."""

_log = logs.get(__name__)


class EdgeEntry(EntryForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A form, who fills it in, and about whom."""

    person: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_NAME_CHARACTERS)]
    pin: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_PIN_CHARACTERS)]
    where: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # bed, patient or id of the stay


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an entry."""

    id: str
    bed: str
    patient: str
    by: str
    at_ms: int
    entered_ms: int
    words: list[str]


class _Waiting(NamedTuple):
    entry: EdgeEntry
    done: "asyncio.Future[Entered]"


class EdgeObserving:
    """Entries of people at one edge.

    Args:
        directory: bindings of this edge; nothing is entered about others.
        edge_id: of this edge, short.
        clock_text: writes times in texts.
    """

    def __init__(
        self,
        door: EntryDoor,
        directory: Directory,
        *,
        patients: EdgePatients,
        intake: Intake,
        keeper: Keeper,
        counts: AgentCounts,
        edge_id: str,
        clock_text: Callable[[int], str],
    ) -> None:
        self._door = door
        self._directory = directory
        self._patients = patients
        self._intake = intake
        self._keeper = keeper
        self._counts = counts
        self._edge_id = edge_id
        self._clock_text = clock_text
        self._waiting: list[_Waiting] = []
        self._uncommitted: list[tuple[Entered, asyncio.Future[Entered]]] = []
        self._known: OrderedDict[bytes, Observation] = OrderedDict()
        self._places: dict[tuple[bytes, int], bytes] = {}  # of its frame: session and counter

    async def enter(self, entry: EdgeEntry) -> Entered:
        """Check the person, and hand the entry to the loop of the agent; returns when it is on disk.

        Raises:
            EntryRefused: it was not entered; says why.
            ExtremeEntry: a value is extreme and the person has not confirmed that it is right.
        """
        await self._door.admit(entry.person, entry.pin)
        if len(self._waiting) >= MOST_WAITING:
            raise EntryRefused("too many entries at once; try again in a few seconds")
        done: asyncio.Future[Entered] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entry, done))
        try:
            async with asyncio.timeout(CONFIRMED_WITHIN_S):
                return await done
        except TimeoutError:
            raise EntryRefused(
                "not confirmed: the edge cannot write to its disk now; enter the same again, or at the desk"
            ) from None

    def apply(self, now_ms: int) -> None:
        """Judge and keep what people have entered since the last call; refuse what cannot be right."""
        waiting, self._waiting = self._waiting, []
        for entry, done in waiting:
            if done.done():  # the person has gone away
                continue
            try:
                entered, is_new = self._apply(entry, now_ms)
            except EntryRefused as error:
                done.set_exception(error)
                continue
            if is_new:
                self._uncommitted.append((entered, done))
            else:
                done.set_result(entered)

    def confirm(self) -> None:
        """What was applied is on disk."""
        confirmed, self._uncommitted = self._uncommitted, []
        for entered, done in confirmed:
            if not done.done():
                done.set_result(entered)

    def refused_by_cloud(self, ranges: Sequence[tuple[bytes, int, int]]) -> None:
        """The data centre refuses frames for good: session, first and last counter."""
        refused = [
            observation_id
            for (session_id, counter), observation_id in self._places.items()
            if any(session_id == one and low <= counter <= high for one, low, high in ranges)
        ]
        self._counts.refused_observations += len(refused)
        for observation_id in refused:
            _log.error(
                "the data centre refuses an observation that was entered here; enter it at the desk",
                observation=observation_id.hex()[:8],
                hint="a data centre of an earlier version does not know observations",
            )

    def _apply(self, entry: EdgeEntry, now_ms: int) -> tuple[Entered, bool]:
        """The result, and whether it is to be kept. Raises EntryRefused."""
        if self._keeper.is_stuck:
            raise EntryRefused("NOT entered: the edge cannot write to its disk; enter it at the desk")
        stay = self._stay_of(entry.where)
        observation = entry.observation(stay.stay_id, by=entry.person, now_ms=now_ms, edge=self._edge_id)
        for problem in problems(observation):
            if not problem.is_extreme:
                raise EntryRefused(problem.text)
            if not entry.confirmed:
                raise ExtremeEntry(problem.text)
        before = self._known.get(observation.observation_id)
        if before is not None:
            return _repeated(before, observation, stay), False
        self._check(observation, stay, now_ms)
        observation = msgspec.structs.replace(observation, at_ms=min(observation.at_ms, now_ms))
        self._keep(observation, now_ms)
        return _entered(observation, stay), True

    def _stay_of(self, name: str) -> KnownStay:
        try:
            stay = find_stay(name, stays_of(self._directory.bindings()), clock=self._clock_text)
        except NoSuchStay as error:
            raise EntryRefused(f"{error}; this edge knows its own patients only") from error
        if not self._patients.watches(stay.stay_id):
            raise EntryRefused(f"{name!r}: another edge watches this patient now; enter it there, or at the desk")
        return stay

    def _check(self, observation: Observation, stay: KnownStay, now_ms: int) -> None:
        if problem := time_problem(observation.at_ms, now_ms):
            raise EntryRefused(problem)
        if observation.at_ms < stay.began_ms - FUTURE_MS:
            raise EntryRefused(f"the patient is monitored since {self._clock_text(stay.began_ms)}; that is later")
        if observation.corrects:
            before = self._known.get(observation.corrects)
            if before is None or before.stay_id != observation.stay_id:
                raise EntryRefused(
                    "the observation to correct was not entered here for this patient since the agent started; "
                    "correct it at the desk"
                )

    def _keep(self, observation: Observation, now_ms: int) -> None:
        bindings = self._directory.of_stay(bytes.fromhex(observation.stay_id))
        alarms = self._patients.observe(observation)
        payload = encode(from_observation(observation))
        place = self._keeper.keep(bindings[-1].binding_id, FrameClass.ALARM, payload, Keep.ALWAYS, now_ms)
        self._known[observation.observation_id] = observation
        self._places[place] = observation.observation_id
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        while len(self._places) > KEPT:
            del self._places[next(iter(self._places))]
        self._counts.observations += 1
        self._intake.keep_alarms(alarms, now_ms)
        self._keeper.want_commit(0)
        _log.info("observation entered here", observation=observation.observation_id.hex()[:8])


def _entered(observation: Observation, stay: KnownStay) -> Entered:
    return Entered(
        id=observation.observation_id.hex(),
        bed=stay.bed,
        patient=stay.patient,
        by=observation.by,
        at_ms=observation.at_ms,
        entered_ms=observation.entered_ms,
        words=in_words(observation),
    )


def _repeated(before: Observation, again: Observation, stay: KnownStay) -> Entered:
    times = {name: getattr(before, name) for name in ("at_ms", "entered_ms", "heard_ms", "off_until_ms")}
    if msgspec.structs.replace(again, **times) != before:
        raise EntryRefused("this id belongs to another observation; a new entry makes an id of its own")
    return _entered(before, stay)

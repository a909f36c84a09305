"""The outages of the desk's site: memory of `vitals.outages`, never ahead of the book."""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager

from runtime.logs import get
from stream.desk import outages, texts
from stream.desk.book import DeskBook
from stream.desk.decisions import Kept
from vitals.alarms import ClockText
from vitals.messages import AlarmChanged
from vitals.outages import NO_DATA_RULES, Outage, SiteOutages

_log = get(__name__)


class DeskOutages:
    """Follows the alarms about missing data, and keeps an alarm of the desk for each outage.

    Args:
        where: the place of a binding.
        patients: number of patients monitored now; None if it is not known.
        clock: writes the times in texts.
    """

    def __init__(
        self,
        site: str,
        book: DeskBook,
        *,
        where: Callable[[str], str],
        patients: Callable[[], int | None],
        clock: ClockText,
    ) -> None:
        self._site = site
        self._clock = clock
        self._book = book
        self._where = where
        self._patients = patients
        self._outages: SiteOutages | None = None  # None: to be read from the book

    def replaced_by(self, alarm_id: bytes) -> bytes | None:
        """The id of the open outage that calls instead of an alarm; None if none does."""
        return None if self._outages is None else self._outages.replaced_by(alarm_id)

    @contextmanager
    def keeping(self, now_ms: int) -> Iterator[None]:
        """A transaction of the book. If it fails, outages are read from the book again: memory is not ahead of it."""
        try:
            with self._book.transaction():
                if self._outages is None:
                    self._restore(now_ms)
                yield
        except BaseException:
            self._outages = None
            raise

    def follow(self, changed: Sequence[AlarmChanged], now_ms: int, *, store: bool = False) -> set[bytes]:
        """Update the outages with alarms that changed. Within a transaction.

        Args:
            store: write the state even if no alarm is about missing data.

        Returns:
            The alarms that joined or left an outage, so that somebody else calls for them now.
        """
        about_data = [alarm for alarm in changed if alarm.rule_id in NO_DATA_RULES]
        if self._outages is None or not (about_data or store):
            return set()
        named = {alarm.alarm_id for alarm in about_data}
        moved: set[bytes] = set()
        for outage in self._outages.observe_all(about_data, patients=self._patients()):
            moved |= self._follow(outage, named, now_ms)
        self._book.put_outages(self._outages.to_state())
        return moved

    def _restore(self, now_ms: int) -> None:
        state = self._book.outages()
        if state is not None:
            self._outages = SiteOutages.from_state(self._site, state, self._clock)
            return
        self._outages = SiteOutages(self._site, self._clock)
        listed = sorted(self._book.alarms.listed(), key=lambda one: (one.opened_ms, one.alarm.alarm_id))
        self.follow([one.alarm for one in listed if one.is_active], now_ms, store=True)

    def _follow(self, outage: Outage, changed: Set[bytes], now_ms: int) -> set[bytes]:
        book = self._book
        before = book.alarms.get(outage.outage_id)
        joined = [alarm_id for alarm_id in outage.grouped if before is None or alarm_id in changed]
        members = [kept for alarm_id in joined if (kept := book.alarms.get(alarm_id)) is not None]
        places = [self._where(stay_id) for stay_id in outage.without_data[: outages.MOST_PLACES]]
        kept = outages.follow_outage(outage, places, now_ms=now_ms, before=before, members=members)
        book.alarms.put(kept)
        for alarm_id in joined:
            book.deliveries.stop(alarm_id)
        moved = set(joined)
        if outage.ended_ms is not None:
            book.deliveries.stop(outage.outage_id)
            calls = book.deliveries.of(outage.outage_id)
            book.deliveries.put_new(outages.end_notifications(kept, calls, now_ms=now_ms))
            moved |= self._without_data(outage)
        if before is None or outage.ended_ms is not None:
            state = "began" if outage.ended_ms is None else "ended"
            count = len(outage.without_data)
            _log.warning(f"outage {state}", alarm=texts.ref(outage.outage_id), patients_without_data=count)
        return moved

    def _without_data(self, outage: Outage) -> set[bytes]:
        """The alarms of an outage that has ended, which call for themselves again."""
        bindings = set(outage.without_data)
        listed: list[Kept] = self._book.alarms.listed()
        return {one.alarm.alarm_id for one in listed if one.alarm.stay_id in bindings}

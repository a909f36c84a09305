"""The report of a ward, put together from its parts: status while it runs, summary when it has ended."""

from collections import Counter

from simulators.ward.calls import Calls
from simulators.ward.connections import Connections
from simulators.ward.data_centre import DataCentre
from simulators.ward.edges import Edges
from simulators.ward.fault_schedule import FaultSchedule
from simulators.ward.fleets import Fleets
from simulators.ward.pace import Pace
from simulators.ward.playback import Playback
from simulators.ward.raised_alarms import RaisedAlarms
from simulators.ward.rounds import RoundCounts
from simulators.ward.screen import PatientRow, WardStatus, time_of_day
from simulators.ward.setup import WardSetup
from simulators.ward.summary import WardSummary


class WardReport:
    """Reads the counters of all parts of a ward; changes nothing."""

    def __init__(
        self,
        setup: WardSetup,
        *,
        pace: Pace,
        playback: Playback,
        connections: Connections,
        data_centre: DataCentre,
        edges: Edges,
        fleets: Fleets,
        faults: FaultSchedule,
        alarms: RaisedAlarms,
        calls: Calls | None,
        rounds: RoundCounts | None,
    ) -> None:
        self._story = setup.story
        self._speed_asked = setup.options.speed
        self._bindings = setup.site.bindings
        self._pace = pace
        self._playback = playback
        self._connections = connections
        self._data_centre = data_centre
        self._edges = edges
        self._fleets = fleets
        self._faults = faults
        self._alarms = alarms
        self._calls = calls
        self._rounds = RoundCounts() if rounds is None else rounds

    def rows(self, at_ms: int) -> list[PatientRow]:
        """Every patient as the store knows them, at a simulated time."""
        return [
            PatientRow(bed=one.bed, patient=one.patient, view=self._data_centre.view(one.stay, at_ms))
            for one in {one.stay: one for one in self._bindings}.values()
        ]

    def status(self) -> WardStatus:
        """The state of the ward at this moment."""
        playback = self._playback
        return WardStatus(
            title=self._story.title,
            simulated=time_of_day(playback.now_ms),
            speed=playback.simulated_s / playback.real_s,
            judged_by=self._edges.judged_by,
            sent=self._fleets.counts.sent,
            stored=self._data_centre.stored,
            waiting=self._pace.waiting_for,
            duplicates=self._duplicates(),
            rejected=sum(self._rejected().values()),
            trouble=self._trouble(),
        )

    def summary(self) -> WardSummary:
        """The whole ward, as counted in its store and by its parts."""
        data_centre, playback, fleets = self._data_centre, self._playback, self._fleets.counts
        stored, distinct = data_centre.count_stored()
        news2, complete = data_centre.count_scores()
        rejected, alarms = self._rejected(), data_centre.alarms_by_class()
        first_alarm_s, real_s, simulated_s = self._alarms.first_after_s, playback.real_s, playback.simulated_s
        return WardSummary(
            story=self._story.title,
            patients=self._story.patients,
            judged_by=self._edges.judged_by,
            sent=fleets.sent,
            accepted=fleets.accepted,
            stored=stored,
            duplicates=self._duplicates(),
            duplicates_stored=stored - distinct,
            rejected=sum(rejected.values()),
            rejected_by_reason=dict(sorted(rejected.items())),
            refused=fleets.refused,
            given_up=fleets.given_up,
            dead_letters=data_centre.count_dead_letters(),
            alarms=sum(alarms.values()),
            alarms_by_class=alarms,
            local_alarms=self._edges.local_alarms(),
            seconds_to_first_alarm=None if first_alarm_s is None else round(first_alarm_s, 3),
            simulated_s=round(simulated_s, 3),
            real_s=round(real_s, 3),
            speed_asked=self._speed_asked,
            speed=round(simulated_s / real_s, 2),
            held_s=round(self._pace.held_ms / 1_000, 3),
            messages={} if self._calls is None else dict(sorted(self._calls.messages.items())),
            answered={} if self._calls is None else dict(sorted(self._calls.answered.items())),
            on_the_way=self._pace.waiting_for,
            observations=self._rounds.entered,
            observations_stored=data_centre.count_observations(),
            observations_refused=dict(self._rounds.refused),
            late_rounds=self._rounds.late,
            news2=news2,
            news2_complete=complete,
            faults=dict(self._fault_counts()),
            file={} if self._story.report is None else self._story.report.as_dict(),
            file_told=() if self._story.report is None else tuple(self._story.report.lines()),
        )

    def _trouble(self) -> str:
        if self._faults.broker_is_down:
            return "broker killed"
        if self._playback.is_draining:
            return "waiting for the last readings"
        return "" if self._data_centre.is_connected else "broker lost, reconnecting"

    def _duplicates(self) -> int:
        return self._data_centre.duplicates + self._edges.duplicates()

    def _rejected(self) -> Counter[str]:
        return self._data_centre.rejected + self._edges.rejected()

    def _fault_counts(self) -> Counter[str]:
        counts = Counter(self._faults.counts)
        for one in (*self._fleets.faults(), *self._connections.faults()):
            counts.update({"lost": one.lost + one.cut, "doubled": one.duplicated, "reordered": one.reordered})
            counts.update({"damaged": one.corrupted, "delayed": one.delayed})
        return Counter({name: count for name, count in counts.items() if count})

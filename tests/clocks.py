"""The whole way of a reading without a network, with every clock wrong as a test wants it.

A wearable's readings go through the pipeline of an edge and through ingest to the patient monitors of the data centre.
Elapsed time is that of the test; each of the three wall clocks has an error of its own.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from edge.pipeline import Pipeline
from edge.scoring import Scoring
from edge.wall import Wall
from models.artifacts import LoadedModels
from runtime.clock import ManualClock, SteadyClock
from simulators.made_up import demo_site
from stream.ingest.edge_clocks import EdgeClocks
from tests.edge.benches import HOUR, MINUTE, NOW, SECOND, WELL
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Event, Tick
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from wire.codec import HeartbeatV1, VitalsV1, decode_edge_vitals, encode, to_reading
from wire.envelope import FrameClass
from wire.identity import NOTHING
from wire.receiver import Opened

DAY: Final = 24 * HOUR
CADENCE: Final = 5 * SECOND
ILL_FROM: Final = 6 * MINUTE
END: Final = 10 * MINUTE
SITE: Final = demo_site(wearables=1, edges=1, now_ms=NOW)
BINDING: Final = SITE.bindings[0]
EDGE_ID: Final = SITE.edges[0].me.device_id
SIZES: Final = {
    "3 s": 3 * SECOND, "8 s": 8 * SECOND, "3.5 min": 210 * SECOND, "10 min": 10 * MINUTE, "30 min": 30 * MINUTE,
    "1 h": HOUR, "1 day": DAY, "200 days": 200 * DAY,
}  # fmt: skip

Error = Callable[[int], int]


class Told(NamedTuple):
    """What one place said of the patient, in milliseconds of elapsed time."""

    physiological: dict[tuple[str, str], tuple[int, int]]  # by rule and key: highest priority, when it was reached
    ids: set[bytes]
    no_data: list[int]
    clock: list[tuple[int, str, str]]  # when, key, text


def summary(events: Iterable[tuple[int, Event]]) -> Told:
    told = Told({}, set(), [], [])
    for after_ms, one in events:
        if not isinstance(one, AlarmChanged) or one.retrospective or one.state is AlarmState.PENDING:
            continue
        if one.kind is AlarmKind.PHYSIOLOGICAL:
            told.ids.add(one.alarm_id)
            known = told.physiological.get((one.rule_id, one.key), (0, 0))
            if one.priority > known[0]:
                told.physiological[one.rule_id, one.key] = (int(one.priority), after_ms)
        elif one.rule_id == "no_data":
            told.no_data.append(after_ms)
        elif one.rule_id == "clock" and one.state is AlarmState.ACTIVE:
            told.clock.append((after_ms, one.key, one.text))
    return told


class Way:
    """From a wearable to the data centre; every clock is wrong by its own error."""

    def __init__(self, wearable: Error, edge: Error, centre: Error) -> None:
        self.wearable, self.edge_error, self.centre_error = wearable, edge, centre
        self.boot_id = b"bootboot"
        self.machine, self.server = ManualClock(NOW + edge(0)), ManualClock(NOW + centre(0))
        self.wall, self.steady = Wall(self.machine, 0), SteadyClock(self.server)
        scoring = Scoring(LoadedModels({}, {}), lambda _: NOTHING)
        self.pipeline = Pipeline(lambda _: MonitoringPlan(), (), scoring, boot_id=self.boot_id)
        self.clocks, self.patients = EdgeClocks(), Patients(lambda _: MonitoringPlan())
        self.at_edge: list[tuple[int, Event]] = []
        self.at_centre: list[tuple[int, Event]] = []

    def pass_time(self, after_ms: int) -> None:
        for clock, error in ((self.machine, self.edge_error), (self.server, self.centre_error)):
            clock.advance(after_ms - clock.mono_ms())
            clock.set_wall(NOW + after_ms + error(after_ms))
        if (by_ms := self.wall.follow()) != 0:
            self.pipeline.shift(by_ms)
        self.at_edge += [(after_ms, one) for one in self.pipeline.on_timer(self.wall.now_ms())]
        self.at_centre += [(after_ms, one) for one in self.patients.apply(Tick(now_ms=self.steady.now_ms()))]

    def beat(self, after_ms: int, *, at_ms: int | None = None) -> None:
        """A heartbeat of the edge; one that waited says when it was sent."""
        beat = HeartbeatV1(
            boot_id=self.boot_id, at_ms=self.wall.now_ms() if at_ms is None else at_ms, uptime_ms=after_ms,
            clock_quality=1, outbox_rows=0, outbox_oldest_ms=None, outbox_used=0.0, last_counters=[], void=[],
            closed=[], model="", sensors=[], version="0", rejected={},
        )  # fmt: skip
        self.clocks.on_heartbeat(EDGE_ID, beat, self.steady.now_ms())

    def edge_hears(self, after_ms: int, **signs: Any) -> bytes:
        opened = Opened(
            b"s" * 16,
            BINDING.wearable_id,
            BINDING.stay_id,
            FrameClass.VITALS,
            after_ms // CADENCE,
            b"",
            False,
            False,
        )
        t_ms = max(NOW + after_ms + self.wearable(after_ms), 0)
        vitals = VitalsV1(t_ms=t_ms, t_quality=2, uptime_ms=HOUR + after_ms, **signs)
        judged = self.pipeline.judge(
            opened, vitals, BINDING, received_ms=self.wall.now_ms(), uptime_ms=self.machine.mono_ms()
        )
        self.at_edge += [(after_ms, one) for one in judged.alarms]
        return encode(judged.message)

    def centre_hears(self, after_ms: int, payload: bytes) -> None:
        message, now_ms = decode_edge_vitals(payload), self.steady.now_ms()
        reading = self.clocks.place(EDGE_ID, message, to_reading(message, BINDING.stay_id), now_ms)
        self.at_centre += [(after_ms, one) for one in self.patients.apply(reading)]


def signs_at(after_ms: int) -> dict[str, Any]:
    k = after_ms // CADENCE
    if after_ms < ILL_FROM:
        return {**WELL, "heart_rate": 72.0 + k % 3, "respiratory_rate": 16.0 + k % 2, "spo2": 97.0 - k % 2}
    return {"heart_rate": 125.0 + k % 3, "respiratory_rate": 27.0 + k % 2, "spo2": 90.0 + k % 2}


def right(_: int) -> int:
    return 0


def a_way(wearable: Error = right, edge: Error = right, centre: Error = right) -> tuple[Told, Told]:
    """What edge and data centre say of a patient who is well for six minutes and then is not."""
    way = Way(wearable, edge, centre)
    for after_ms in range(0, END, CADENCE):
        way.pass_time(after_ms)
        if after_ms % (30 * SECOND) == 0 or after_ms == 15 * SECOND:
            way.beat(after_ms)
        way.centre_hears(after_ms, way.edge_hears(after_ms, **signs_at(after_ms)))
    return summary(way.at_edge), summary(way.at_centre)


RIGHT: Final = a_way()

"""One patient with several devices, at one edge or at two: judged together, told under a binding that counts."""

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge.agent import EdgeAgent
from edge.at_rest import StateLock
from edge.config import EdgeConfig, LocalAlarmConfig, OutboxConfig
from edge.outbox import Keep, Outbox
from edge.status import Status
from runtime.clock import Clock
from stream.ingest.courier import Courier
from stream.site.directory import RegistryDirectory
from tests.edge.benches import HOUR, ILL, MINUTE, SECOND, UNLIMITED, WELL, Bench, Hand
from tests.stream.site.registries import NOW, Desk
from vitals.messages import AlarmChanged, AlarmState, BindingPeriod, Reading
from wire.answers import Answer, AnswerKind, build_answer, condition_of
from wire.codec import (
    EdgeAlarmV1,
    VitalsV1,
    decode_edge_alarm,
    decode_edge_vitals,
    encode,
    to_reading,
)
from wire.enrol.wallet import Wallet
from wire.envelope import FrameClass
from wire.identity import LATE_MS, About, BindingRecord
from wire.mqtt import Inbound
from wire.receiver import Opened, Receiver
from wire.sessions import SendSession
from wire.topics import e_down, parse, w_up

PATCH: dict[str, Any] = {"heart_rate": 70.0, "respiratory_rate": 14.0}
OXIMETER: dict[str, Any] = {"spo2": 97.0}
CUFF: dict[str, Any] = {"systolic_bp": 120.0, "diastolic_bp": 80.0}


class Edge:
    """An enrolled edge with its agent, and a hand in place of the broker."""

    def __init__(self, ward: "Ward", name: str) -> None:
        self.ward = ward
        self.wallet = ward.desk.enrol("edge")
        self.config = EdgeConfig(
            identity=self.wallet.folder,
            data_dir=ward.folder / name,
            state_key=ward.folder / f"{name}.key",
            limits=UNLIMITED,
            outbox=OutboxConfig(budget_mb=64, commit_ms=0),
            local_alarm=LocalAlarmConfig(after_s=60.0),
        )
        self.told: list[Status] = []
        self.start()

    def start(self) -> None:
        self.hand = Hand()
        self.agent = EdgeAgent(
            self.config,
            self.wallet.provision,
            self.ward.desk.clock,
            rng=random.Random(1),
            wallet=self.wallet,
            lock=StateLock.open(self.config.state_key),
            tell=self.told.append,
        )

    def restart(self) -> None:
        self.agent.close()
        self.wallet = Wallet.load(self.wallet.folder)
        self.start()

    def turn(self, *messages: tuple[str, bytes], after_ms: int = SECOND) -> None:
        self.ward.desk.clock.advance(after_ms)
        self.agent._turn(self.hand, [Inbound(topic, frame, 1, 1) for topic, frame in messages])  # type: ignore[arg-type]

    def deliver(self) -> None:
        """The documents of the registry, all at once."""
        me = self.wallet.me.device_id
        self.turn(*((e_down(me), one) for one in self.ward.desk.registry.documents.documents_for(me)))

    def alarms(self) -> list[AlarmChanged]:
        return self.agent._patients.open_alarms()

    def stays(self) -> list[str]:
        return self.agent._patients._pipeline.stays()

    def sent(self) -> list[tuple[bytes, EdgeAlarmV1 | Reading]]:
        """What the data centre can open since the last call, and the binding that it is under."""
        found: list[tuple[bytes, EdgeAlarmV1 | Reading]] = []
        for topic, frame in self.hand.published:
            if parse(topic).branch != "e":
                continue
            opened = self.ward.receiver.receive(
                frame, topic_device=None, now_ms=self.ward.desk.clock.now_ms(), mono_ms=self.ward.desk.clock.mono_ms()
            )
            if not isinstance(opened, Opened) or opened.duplicate or not opened.payload:
                continue
            if opened.frame_class == FrameClass.ALARM:
                found.append((opened.binding_id, decode_edge_alarm(opened.payload)))
            if opened.frame_class == FrameClass.VITALS:
                binding = self.ward.binding(opened.binding_id)
                message = decode_edge_vitals(opened.payload)
                found.append((opened.binding_id, to_reading(message, binding.binding_id, binding.stay_id)))
        self.hand.published.clear()
        return found

    def alarms_sent(self) -> list[tuple[bytes, EdgeAlarmV1]]:
        return [(binding, one) for binding, one in self.sent() if isinstance(one, EdgeAlarmV1)]


class Ward:
    """A registry, two edges, and devices that are named by what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.desk = Desk(folder)
        self.near, self.far = Edge(self, "near"), Edge(self, "far")
        self.receiver = Receiver(
            Wallet.load(self.desk.site.ingest_folder).me, RegistryDirectory(self.desk.registry), limits=UNLIMITED
        )
        self.wallets: dict[str, Wallet] = {}
        self._sessions: dict[bytes, SendSession] = {}
        self._number = NOW

    def device(self, name: str) -> Wallet:
        if name not in self.wallets:
            device_id = self.desk.registry.add_device("wearable", label=name, who="tester")
            self.wallets[name] = self.desk.enrol(invitation=self.desk.again(device_id))
        return self.wallets[name]

    def bind(self, name: str, edge: Edge, *, patient: str = "P0001", bed: str | None = "7", **more: Any) -> bytes:
        self.desk.clock.advance(SECOND)  # of two at one moment chance would say which is the newest
        return self.desk.registry.bind(
            wearable_id=self.device(name).me.device_id,
            edge_id=edge.wallet.me.device_id,
            patient=patient,
            bed=bed,
            who="tester",
            **more,
        )

    def binding(self, binding_id: bytes) -> BindingRecord:
        found = self.desk.registry.binding(binding_id)
        assert found is not None
        return found

    def deliver(self) -> None:
        for edge in (self.near, self.far):
            edge.deliver()

    def reading(self, edge: Edge, binding_id: bytes, signs: dict[str, Any], *, ago_ms: int = 0) -> None:
        """A device sends one reading under a binding, in the session that it has begun for it."""
        binding = self.binding(binding_id)
        wallet = next(one for one in self.wallets.values() if one.me.device_id == binding.wearable_id)
        topic, frames = w_up(wallet.me.device_id, FrameClass.VITALS), []
        if binding_id not in self._sessions:
            self._number += 1
            self._sessions[binding_id] = SendSession.open(
                wallet.me,
                edge.wallet.me.recipient(),
                binding_id=binding_id,
                frame_class=FrameClass.VITALS,
                number=self._number,
                previous=bytes(16),
                now_ms=self.desk.clock.now_ms(),
            )
            frames.append((topic, self._sessions[binding_id].frame))
        at_ms = self.desk.clock.now_ms() - ago_ms
        vitals = VitalsV1(t_ms=at_ms, t_quality=2, uptime_ms=HOUR + at_ms - NOW, **signs)
        edge.turn(*frames, (topic, self._sessions[binding_id].seal(encode(vitals))[1]))


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


# One edge


def test_the_devices_of_one_patient_are_judged_as_one(ward: Ward) -> None:
    bindings = {name: ward.bind(name, ward.near) for name in ("patch", "oximeter", "cuff")}
    ward.deliver()

    for name, signs in (("patch", PATCH), ("oximeter", OXIMETER), ("cuff", CUFF)):
        ward.reading(ward.near, bindings[name], signs)

    assert ward.near.stays() == [bindings["patch"].hex()]
    monitor = ward.near.agent._patients._pipeline._patients.monitor(bindings["patch"].hex())
    assert monitor is not None
    assert {sign.value for sign in monitor.latest()} == {*PATCH, *OXIMETER, *CUFF}
    readings = [(name, one) for name, one in ward.near.sent() if isinstance(one, Reading)]
    assert [(name, one.device) for name, one in readings] == [(one, one.hex()) for one in bindings.values()]
    assert {one.stay_id for _, one in readings} == {bindings["patch"].hex()}
    states = Outbox.patients(ward.near.agent._keeper.outbox)
    assert list(states) == [bindings["patch"]]


def test_an_alarm_goes_out_under_an_open_binding_also_when_the_first_device_has_left(ward: Ward) -> None:
    patch, oximeter = ward.bind("patch", ward.near), ward.bind("oximeter", ward.near)
    ward.deliver()
    ward.reading(ward.near, patch, WELL)
    ward.desk.registry.unbind(patch, who="tester")
    ward.deliver()

    ward.near.restart()
    for _ in range(20):
        ward.reading(ward.near, oximeter, ILL)

    told = ward.near.alarms_sent()
    assert {one.rule_id for _, one in told} >= {"news2"}
    assert {binding for binding, _ in told} == {oximeter}
    assert ward.binding(oximeter).stay_id == patch


def test_without_an_open_binding_the_last_one_counts_for_as_long_as_it_is_accepted(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.deliver()
    ward.reading(ward.near, patch, ILL)
    ward.near.sent()
    ward.desk.registry.unbind(patch, who="tester", stay_open=True)
    ward.deliver()

    now_ms = ward.desk.clock.now_ms()
    found = ward.near.agent._intake._binding_for(patch.hex(), now_ms)

    assert found is not None
    assert found.admits(ward.near.wallet.me.device_id, began_ms=now_ms, now_ms=now_ms)
    assert found.admits(ward.near.wallet.me.device_id, began_ms=now_ms, now_ms=now_ms + LATE_MS - MINUTE)
    (bed,) = ward.near.told[-1].beds
    assert bed.no_device


def test_late_readings_of_a_device_that_went_to_another_patient_stay_with_the_first(ward: Ward) -> None:
    #   thermometer   |== P0001 ==|== P0002 ==        its backlog comes late
    ward.bind("patch", ward.near)
    first = ward.bind("thermometer", ward.near)
    ward.deliver()
    ward.reading(ward.near, first, {"temperature": 36.5})
    ward.desk.clock.advance(MINUTE)
    ward.desk.registry.unbind(first, who="tester")
    second = ward.bind("thermometer", ward.near, patient="P0002", bed="8")
    ward.deliver()
    ward.reading(ward.near, second, {"temperature": 39.0})
    ward.near.sent()

    ward.reading(ward.near, first, {"temperature": 36.6}, ago_ms=MINUTE)

    ((binding, late),) = ward.near.sent()
    assert isinstance(late, Reading)
    assert (binding, late.stay_id, late.temperature) == (first, ward.binding(first).stay, 36.6)
    assert ward.binding(second).stay_id == second


def test_each_device_keeps_the_first_reading_of_its_minute(ward: Ward) -> None:
    patch, cuff = ward.bind("patch", ward.near), ward.bind("cuff", ward.near)
    ward.deliver()
    kept: list[Keep] = []
    keep = ward.near.agent._keeper.keep

    def note(binding_id: bytes, frame_class: int, payload: bytes, dear: Keep, now_ms: int) -> None:
        if frame_class == FrameClass.VITALS:
            kept.append(dear)
        keep(binding_id, frame_class, payload, dear, now_ms)

    ward.near.agent._keeper.keep = note  # type: ignore[method-assign]
    for binding in (patch, patch, cuff):
        ward.reading(ward.near, binding, PATCH if binding == patch else CUFF)

    assert kept == [Keep.PER_FIVE_MINUTES, Keep.ORDINARY, Keep.PER_FIVE_MINUTES]


def test_a_bed_shows_its_devices_by_name_and_follows_a_move(ward: Ward) -> None:
    bindings = [ward.bind(name, ward.near) for name in ("patch", "cuff")]
    ward.bind("oximeter", ward.far)
    ward.deliver()
    ward.reading(ward.near, bindings[0], PATCH)
    (bed,) = ward.near.told[-1].beds
    ward.desk.registry.move(bindings[0], bed="9", who="tester")
    ward.deliver()
    ward.near.turn()

    (moved,) = ward.near.told[-1].beds
    assert (bed.bed, moved.bed, moved.elsewhere) == ("7", "9", 1)
    assert {one.name: one.heard_ms is not None for one in moved.devices} == {"patch": True, "cuff": False}
    assert moved.heard_ms is not None


def test_facts_that_are_stated_later_are_judged_by(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.deliver()
    ward.reading(ward.near, patch, WELL | {"spo2": 90.0})
    monitors = ward.near.agent._patients._pipeline._patients

    ward.desk.registry.state_facts(patch, about=About(age_years=9.0), spo2_scale=2, who="tester")
    ward.deliver()
    ward.near.turn()

    monitor = monitors.monitor(patch.hex())
    assert monitor is not None
    assert (monitor.plan.spo2_scale, monitor.plan.group.word) == (2, "under 16")


def test_an_exchange_goes_on_with_the_same_stay(ward: Ward) -> None:
    old = ward.bind("patch", ward.near)
    ward.deliver()
    ward.reading(ward.near, old, WELL)

    new = ward.desk.registry.exchange(old, wearable_id=ward.device("patch 2").me.device_id, who="tester")
    ward.deliver()
    ward.reading(ward.near, new, WELL)

    assert ward.near.stays() == [old.hex()]
    assert not [one for _, one in ward.near.alarms_sent() if one.state == AlarmState.CLEARED]
    (bed,) = ward.near.told[-1].beds
    assert bed.devices == ()  # the one that is worn


def test_an_exchange_is_no_end_in_whatever_order_its_documents_come(ward: Ward) -> None:
    #   patch    near  |=====|
    #   patch 2  near        |=====      its document comes later than the end of the first
    #   oximeter far   |===========
    old = ward.bind("patch", ward.near)
    ward.bind("oximeter", ward.far)
    ward.deliver()
    for _ in range(20):
        ward.reading(ward.near, old, ILL)
    standing = {one.alarm_id for one in ward.near.alarms()}
    new = ward.desk.registry.exchange(old, wearable_id=ward.device("patch 2").me.device_id, who="tester")

    me, documents = ward.near.wallet.me.device_id, ward.desk.registry.documents
    for frame in documents.documents_for(me, without=[new]):
        ward.near.turn((e_down(me), frame))
        assert ward.near.stays() == [old.hex()]
    ward.near.deliver()

    assert ward.near.stays() == [old.hex()]
    assert not [one for _, one in ward.near.alarms_sent() if "another edge watches" in one.text]
    assert standing


def test_the_periods_of_a_stay_say_when_it_goes_on_and_when_it_is_over(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BindingPeriod] = []
    pipeline = ward.near.agent._patients._pipeline
    real = pipeline.on_binding

    def note(period: BindingPeriod) -> list[AlarmChanged]:
        told.append(period)
        return real(period)

    monkeypatch.setattr(pipeline, "on_binding", note)
    patch, cuff = ward.bind("patch", ward.near), ward.bind("cuff", ward.near)
    ward.deliver()
    ward.desk.registry.unbind(patch, who="tester")
    ward.deliver()
    ward.desk.registry.discharge(patch, who="tester")
    ward.deliver()
    ward.near.turn()

    def of(binding: bytes) -> list[tuple[bool, bool]]:
        return [(one.to_ms is None, one.stay_goes_on) for one in told if one.device == binding.hex()]

    assert of(patch) == [(True, False), (False, True)]
    assert of(cuff) == [(True, False), (False, False)]
    assert {one.stay_id for one in told} == {patch.hex()}
    assert {one.device_name for one in told} == {"patch", "cuff"}


# Two edges


def test_an_edge_that_hears_a_part_says_that_its_score_is_a_lower_bound(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.bind("oximeter", ward.far)
    ward.bind("cuff", ward.far)
    ward.deliver()

    for _ in range(20):
        ward.reading(ward.near, patch, ILL)

    told = {one.rule_id: one.text for _, one in ward.near.alarms_sent()}
    assert told["news2"].endswith("; at least so much: 2 devices of this patient at another edge not counted")
    assert "another edge" not in told.get("red_sign", "")


def answer(ward: Ward, alarm: AlarmChanged, **changes: Any) -> None:
    me = Wallet.load(ward.desk.site.ingest_folder).me
    told = Answer(
        AnswerKind.ACKNOWLEDGED,
        int(alarm.priority),
        ward.desk.clock.now_ms(),
        0,
        bytes.fromhex(alarm.stay_id),
        b"the data centre.",
        int(alarm.grade),
        condition_of(alarm.rule_id, alarm.key),
    )._replace(**changes)
    edge_id = ward.near.wallet.me.device_id
    ward.near.turn((e_down(edge_id), build_answer(me.signing_key, told, sender=me.device_id, edge_id=edge_id)))


def ill_at_the_near_edge(ward: Ward) -> AlarmChanged:
    patch = ward.bind("patch", ward.near)
    ward.bind("oximeter", ward.far)
    ward.deliver()
    for _ in range(20):
        ward.reading(ward.near, patch, ILL)
    return next(one for one in ward.near.alarms() if one.rule_id == "news2")


def acknowledged(ward: Ward, alarm: AlarmChanged) -> bool:
    (now,) = [one for one in ward.near.alarms() if one.alarm_id == alarm.alarm_id]
    return now.acknowledged_by is not None


def test_an_answer_to_the_condition_counts_though_it_was_found_elsewhere_first(ward: Ward) -> None:
    alarm = ill_at_the_near_edge(ward)

    answer(ward, alarm)

    assert acknowledged(ward, alarm)
    others = [one for one in ward.near.alarms() if one.rule_id != "news2"]
    assert all(one.acknowledged_by is None for one in others)


@pytest.mark.parametrize(
    "changes",
    [
        {"condition": 0},
        {"condition": condition_of("red_sign", "spo2")},
        {"at_ms": NOW - HOUR},  # a recording: it was given before this alarm began
        {"stay_id": b"another patient."},
    ],
    ids=["an earlier data centre", "another condition", "given before", "another patient"],
)
def test_an_answer_to_something_else_changes_nothing(ward: Ward, changes: dict[str, Any]) -> None:
    alarm = ill_at_the_near_edge(ward)

    answer(ward, alarm, **changes)

    assert not acknowledged(ward, alarm)


def test_an_answer_to_something_milder_elsewhere_does_not_count_here(ward: Ward) -> None:
    alarm = ill_at_the_near_edge(ward)

    answer(ward, alarm, priority=1)
    answer(ward, alarm, grade=max(int(alarm.grade) - 3, 0))

    assert not acknowledged(ward, alarm)


def test_a_silence_of_the_condition_counts_here(ward: Ward) -> None:
    alarm = ill_at_the_near_edge(ward)
    until_ms = ward.desk.clock.now_ms() + HOUR

    answer(ward, alarm, kind=AnswerKind.SILENCED, at_ms=0, until_ms=until_ms)

    (now,) = [one for one in ward.near.alarms() if one.alarm_id == alarm.alarm_id]
    assert now.silenced_until_ms == until_ms


class Courage:
    """The data centre's courier between the registry and the two edges."""

    def __init__(self, ward: Ward) -> None:
        self.ward = ward
        self.courier = Courier(ward.desk.registry.documents)

    def round(self, *edges: Edge) -> None:
        """Heartbeats of these edges, and what is sent to any."""
        clock: Clock = self.ward.desk.clock
        self.courier.changed(clock.mono_ms())
        for edge in edges:
            self.courier.on_heartbeat(edge.wallet.me.device_id, edge.wallet.digest, clock.mono_ms())
        for edge in (self.ward.near, self.ward.far):
            edge.turn(after_ms=20 * SECOND)
        for parcel in self.courier.due(clock.mono_ms()):
            edge = next(one for one in (self.ward.near, self.ward.far) if one.wallet.me.device_id == parcel.edge_id)
            edge.turn(*((e_down(parcel.edge_id), frame) for frame in parcel.frames))
            edge.turn()


def test_the_old_edge_watches_until_the_new_one_does_and_then_forgets(ward: Ward) -> None:
    #   patch at near, ill          |=========|
    #   patch 2 at far                        |=========
    #   far is switched off                   |----|
    patch = ward.bind("patch", ward.near)
    post = Courage(ward)
    for _ in range(2):
        post.round(ward.near, ward.far)
    for _ in range(20):
        ward.reading(ward.near, patch, ILL)
    ward.near.sent()
    standing = {one.alarm_id for one in ward.near.alarms() if one.state is AlarmState.ACTIVE}
    assert standing

    ward.bind("patch 2", ward.far)
    ward.desk.registry.unbind(patch, who="tester")
    for _ in range(4):
        post.round(ward.near)  # nothing is heard of the new edge
    assert ward.near.stays() == [patch.hex()]
    assert {one.alarm_id for one in ward.near.alarms()} >= standing
    for _ in range(3):
        post.round(ward.near, ward.far)

    assert ward.far.stays() == [patch.hex()]
    assert ward.near.stays() == []
    assert ward.near.alarms() == []
    told = ward.near.alarms_sent()
    assert {one.alarm_id for _, one in told if one.state == AlarmState.CLEARED} >= standing
    assert all(one.text.startswith("another edge watches this patient now; alarm was: ") for _, one in told[-1:])
    assert ward.near.agent._keeper.outbox.patients() == {}
    ward.near.restart()
    ward.near.turn()
    assert (ward.near.stays(), ward.near.told[-1].beds) == ([], ())


def test_what_comes_late_to_the_old_edge_is_forwarded_and_calls_nobody(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.deliver()
    ward.reading(ward.near, patch, WELL)
    ward.bind("patch 2", ward.far)
    ward.desk.registry.unbind(patch, who="tester")
    ward.deliver()
    ward.near.turn()
    ward.near.sent()

    ward.reading(ward.near, patch, ILL, ago_ms=MINUTE)

    ((binding, late),) = ward.near.sent()
    assert isinstance(late, Reading)
    assert binding == patch
    assert ward.near.stays() == []
    ward.near.turn(after_ms=HOUR)
    assert ward.near.alarms() == []


def test_a_device_that_comes_back_is_watched_anew(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.bind("oximeter", ward.far)
    ward.deliver()
    ward.desk.registry.unbind(patch, who="tester")
    ward.deliver()
    ward.near.turn()
    assert ward.near.stays() == []

    again = ward.bind("patch", ward.near)
    ward.deliver()
    ward.near.turn()

    assert ward.near.stays() == [patch.hex()]
    for _ in range(20):
        ward.reading(ward.near, again, ILL)
    assert {binding for binding, _ in ward.near.alarms_sent()} == {again}


def test_a_stay_without_any_device_left_is_watched_by_the_edge_that_had_the_last(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    oximeter = ward.bind("oximeter", ward.far)
    ward.deliver()
    ward.desk.registry.unbind(oximeter, who="tester")
    ward.desk.registry.unbind(patch, who="tester", stay_open=True)
    ward.deliver()
    ward.near.turn()

    assert ward.near.stays() == [patch.hex()]


def test_two_weeks_after_its_last_device_left_an_edge_keeps_nothing_of_a_patient(ward: Ward) -> None:
    patch = ward.bind("patch", ward.near)
    ward.deliver()
    ward.reading(ward.near, patch, ILL)
    ward.desk.registry.discharge(patch, who="tester")
    ward.deliver()
    ward.near.turn()
    assert list(ward.near.agent._keeper.outbox.patients()) == [patch]

    ward.desk.clock.advance(LATE_MS + MINUTE)
    ward.near.wallet.forget_old(ward.desk.clock.now_ms())
    ward.near.turn()
    ward.near.turn()

    assert ward.near.stays() == []
    assert ward.near.agent._keeper.outbox.patients() == {}


# An earlier version


def test_the_outbox_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """It was made by the version before stays: 30 s of an ill patient, nothing stored in the data centre."""
    with zipfile.ZipFile(Path(__file__).with_name("outbox_of_earlier.zip")) as earlier:
        earlier.extractall(tmp_path)
    (tmp_path / "state.key").chmod(0o600)

    bench = Bench(tmp_path)
    (standing,) = bench.agent._patients.open_alarms()

    assert bench.agent.waiting == 7
    assert (standing.rule_id, standing.alarm_id.hex()) == ("news2", "5aae03f1f4be28c0be7df35214b740c1")
    assert standing.stay_id == bench.site.bindings[0].binding_id.hex()
    bench.sessions[0] = bench.new_session(number=NOW + 1)
    bench.begin()
    bench.clock.advance(30 * SECOND)
    bench.turn(bench.sealed(31 * SECOND, **ILL))
    bench.pass_time()
    assert standing.alarm_id in {one.alarm_id for one in bench.agent._patients.open_alarms()}
    assert bench.agent.waiting >= 8
    assert set(bench.agent._keeper.outbox.patients()) == {one.binding_id for one in bench.site.bindings}

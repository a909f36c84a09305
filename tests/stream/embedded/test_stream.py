"""The embedded engine: the same story gives the same events, a stop changes nothing, and a signature means it."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.time_zone import clock_or_utc
from stream.embedded.store import Store
from stream.embedded.stream import Engine, encode_events
from stream.errors import CommitFailed
from tests.oracle import check_store
from tests.stream.nights import BED_1, a_bad_night, as_it_arrived, reading, stays_of_many_devices
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND, Site, worse
from vitals.messages import Acknowledge, AlarmChanged, BindingPeriod, Event, Message, Reading, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from wire.codec import encode, to_reading
from wire.envelope import Stage
from wire.errors import Reason


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    opened: list[Store] = []
    yield opened
    for store in opened:
        store.close()


def an_engine(path: Path, stores: list[Store]) -> Engine:
    store = Store(path, synchronous="OFF")
    stores.append(store)
    return Engine(store, lambda _: MonitoringPlan())


def an_hour_of_stays() -> list[Message]:
    """Of one to six devices and a nurse."""
    return as_it_arrived(stays_of_many_devices(hours=1))


NIGHTS = pytest.mark.parametrize("night", [a_bad_night, an_hour_of_stays])


@NIGHTS
def test_an_engine_gives_the_events_of_monitors_that_are_fed_directly(
    tmp_path: Path, stores: list[Store], night: Callable[[], list[Message]]
) -> None:
    engine, monitors = an_engine(tmp_path / "one", stores), Patients(lambda _: MonitoringPlan(), clock_of=clock_or_utc)

    found = [encode_events(engine.apply([message])) for message in night()]

    assert found == [encode_events(monitors.apply(message)) for message in night()]


@NIGHTS
def test_two_runs_of_the_same_story_give_the_same_bytes(
    tmp_path: Path, stores: list[Store], night: Callable[[], list[Message]]
) -> None:
    one, other = an_engine(tmp_path / "one", stores), an_engine(tmp_path / "other", stores)

    first = [encode_events(one.apply([message])) for message in night()]
    second = [encode_events(other.apply([message])) for message in night()]

    assert first == second
    assert len(b"".join(first)) > 50_000
    alarms = one.store.query("SELECT DISTINCT rule_id FROM alarm ORDER BY 1")
    assert night is not a_bad_night or {("news2",), ("no_data",), ("red_sign",)} <= set(alarms)


@NIGHTS
def test_batches_of_any_size_give_the_same_events(
    tmp_path: Path, stores: list[Store], night: Callable[[], list[Message]]
) -> None:
    singly, together = an_engine(tmp_path / "one", stores), an_engine(tmp_path / "other", stores)
    story = night()

    one_by_one = [event for message in story for event in singly.apply([message])]
    in_batches = [event for at in range(0, len(story), 17) for event in together.apply(story[at : at + 17])]

    assert encode_events(one_by_one) == encode_events(in_batches)


@pytest.mark.slow
@NIGHTS
def test_a_stop_after_every_message_changes_nothing(
    tmp_path: Path, stores: list[Store], night: Callable[[], list[Message]]
) -> None:
    story = night()
    running = an_engine(tmp_path / "running", stores)
    expected = [encode_events(running.apply([message])) for message in story]

    found = []
    for message in story:
        with Store(tmp_path / "stopped", synchronous="OFF") as store:
            found.append(encode_events(Engine(store, lambda _: MonitoringPlan()).apply([message])))

    assert found == expected
    query = "SELECT * FROM {} ORDER BY 1, 2"
    with Store(tmp_path / "stopped") as store:
        for table in ("reading", "observation", "news2", "vitals_window", "freshness", "alarm", "patient_state"):
            assert store.query(query.format(table)) == running.store.query(query.format(table)), table


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The events of each message of a bad night, from an engine that is never stopped."""
    with Store(tmp_path_factory.mktemp("running") / "store", synchronous="OFF") as store:
        engine = Engine(store, lambda _: MonitoringPlan())
        return [encode_events(engine.apply([message])) for message in a_bad_night()[:200]]


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 400), max_size=12))
def test_stops_anywhere_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, uninterrupted: list[bytes], stops: list[int]
) -> None:
    with Store(tmp_path_factory.mktemp("stops") / "store", synchronous="OFF") as store:
        engine = Engine(store, lambda _: MonitoringPlan())
        for n, (message, expected) in enumerate(zip(a_bad_night(), uninterrupted, strict=False)):
            if n in stops:
                engine = Engine(store, lambda _: MonitoringPlan())
            assert encode_events(engine.apply([message])) == expected


def test_every_news2_of_a_bad_night_is_what_the_chart_says(tmp_path: Path, stores: list[Store]) -> None:
    engine = an_engine(tmp_path / "night", stores)
    engine.apply(a_bad_night())

    assert check_store(tmp_path / "night", cadence_ms=5_000) > 200


def test_windows_in_the_store_equal_a_recomputation_from_the_readings(tmp_path: Path, stores: list[Store]) -> None:
    engine = an_engine(tmp_path / "night", stores)
    for message in a_bad_night():
        engine.apply([message])

    windows = engine.store.query(
        "SELECT binding_id, sign, start_ms, width_ms, count, mean, minimum, maximum FROM vitals_window"
    )
    bits = {"heart_rate": 1, "respiratory_rate": 2, "spo2": 4, "systolic_bp": 8}
    assert len(windows) > 300
    for bed, sign, start_ms, width_ms, count, mean, low, high in windows:
        values = [
            value
            for (value,) in engine.store.query(
                f"SELECT {sign} FROM reading WHERE binding_id = ? AND at_ms >= ? AND at_ms < ? AND {sign} IS NOT NULL"
                " AND NOT unusable & ?",
                (bed, start_ms, start_ms + width_ms, bits[sign]),
            )
        ]
        assert (count, low, high) == (len(values), min(values), max(values))
        assert mean == pytest.approx(sum(values) / len(values), abs=0.001)


def test_an_acknowledgement_survives_a_restart(tmp_path: Path, stores: list[Store]) -> None:
    engine = an_engine(tmp_path / "store", stores)
    events = engine.apply([reading(0, spo2=90.0, respiratory_rate=25.0)])
    (alarm,) = [event for event in events if isinstance(event, AlarmChanged) and event.rule_id == "news2"]
    engine.apply([Acknowledge(stay_id=BED_1, alarm_id=alarm.alarm_id, by="n1", at_ms=NOW + SECOND)])

    engine.store.close()
    again = an_engine(tmp_path / "store", stores)
    events = again.apply([reading(0, spo2=90.0, respiratory_rate=25.0)])  # the broker sends it once more

    (repeated,) = [event for event in events if isinstance(event, AlarmChanged) and event.rule_id == "news2"]
    assert (repeated.alarm_id, repeated.acknowledged_by) == (alarm.alarm_id, "n1")


# With frames


def test_a_reading_is_signed_for_when_a_query_finds_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()

    assert site.send(site.message(0), site.message(5 * SECOND))

    assert site.acknowledged(Stage.STORED) == 2
    assert site.store.count("reading") == len(site.told) == 2


def test_a_duplicate_is_signed_for_again_and_stored_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    frame = site.sealed(site.message(0))
    site.accept(frame)
    site.acks()

    site.accept(frame, frame)

    assert site.acknowledged(Stage.STORED) == 1
    assert site.store.count("reading") == 1
    assert site.stream.counts.duplicates == 2


def test_the_same_reading_in_another_session_is_stored_once(tmp_path: Path) -> None:
    # An edge that lost its outbox seals again what a wearable sends again.
    site = Site(tmp_path)
    site.begin()

    site.send(site.message(0))
    site.send(site.message(0))

    assert site.store.count("reading") == 1
    assert site.acknowledged(Stage.STORED) == 2


def test_after_a_restart_nothing_is_forgotten_and_nothing_stored_twice(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    frames = [site.sealed(site.message(n * 5 * SECOND)) for n in range(4)]
    site.accept(*frames[:2])

    site.restart()
    assert site.accept(*frames)

    assert site.store.count("reading") == 4
    assert site.acknowledged(Stage.STORED) == 4


def test_what_cannot_be_committed_is_not_signed_for_and_works_when_sent_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    frames = [site.sealed(site.message(n * 5 * SECOND)) for n in range(3)]
    site.clock.advance(10 * SECOND)  # nothing is measured after it has arrived
    blocker = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    site.store.query("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")

    assert not site.accept(*frames)
    assert site.acks() == []
    assert site.told == []

    blocker.execute("ROLLBACK")
    blocker.close()
    assert site.accept(*frames)
    assert site.acknowledged(Stage.STORED) == 3
    assert site.store.count("reading") == site.store.count("news2") == 3


def test_a_full_disk_stops_and_loses_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, max_pages=60)
    site.begin()
    frames, taken = [site.sealed(site.message(n * 5 * SECOND)) for n in range(2_000)], 0
    while taken < len(frames) and site.accept(*frames[taken : taken + 50]):
        taken += 50
    assert 0 < taken < len(frames)
    signed_for = sum(high - low + 1 for ack in site.acks() for low, high in ack.ranges)
    assert signed_for == site.store.count("reading") == taken

    site.max_pages = 100_000
    site.restart()

    assert site.accept(*frames)
    assert site.store.count("reading") == len(frames)


def test_a_failing_message_of_one_patient_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = PatientMonitor.on_reading
    poisoned = Site(tmp_path)
    bed_1 = poisoned.demo.bindings[0].binding_id.hex()

    def on_reading(monitor: PatientMonitor, one: Reading) -> object:
        if one.stay_id == bed_1:
            raise ZeroDivisionError
        return healthy(monitor, one)

    monkeypatch.setattr(PatientMonitor, "on_reading", on_reading)
    poisoned.begin()

    assert poisoned.accept(
        poisoned.sealed(poisoned.message(0)), poisoned.sealed(poisoned.message(0, patient=1), patient=1)
    )

    assert poisoned.store.count("reading") == 1
    assert poisoned.rows("SELECT reason FROM dead_letter") == [("processing",)]
    stages = sorted(ack.stage for ack in poisoned.acks())
    assert stages == [Stage.STORED, Stage.REJECTED]


def test_a_binding_on_which_the_processor_fails_costs_no_other_patient_a_reading_or_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    healthy = PatientMonitor.on_binding
    bed_1, bed_2 = (one.binding_id.hex() for one in site.demo.bindings)

    def on_binding(monitor: PatientMonitor, one: BindingPeriod) -> list[Event]:
        if one.stay_id == bed_1:
            raise ZeroDivisionError
        return healthy(monitor, one)

    monkeypatch.setattr(PatientMonitor, "on_binding", on_binding)
    site.begin()
    assert site.store.state(bed_1) is None
    assert site.store.state(bed_2) is not None
    for index in range(3):
        site.clock.advance(SECOND)  # the bindings are told again
        assert site.accept(site.sealed(site.message(index * SECOND, patient=1), patient=1))

    assert site.store.count("reading") == 3
    assert site.store.count("dead_letter") == 0
    monkeypatch.undo()
    site.clock.advance(SECOND)
    assert site.accept()
    assert site.store.state(bed_1) is not None


def test_a_row_that_cannot_be_stored_is_a_dead_letter_and_the_others_are_stored(tmp_path: Path) -> None:
    site = Site(tmp_path)
    bed_1 = site.demo.bindings[0].binding_id.hex()
    site.store.query(
        "CREATE TRIGGER refuse BEFORE INSERT ON reading "
        f"WHEN new.binding_id = '{bed_1}' BEGIN SELECT RAISE(ABORT, 'not this'); END"
    )
    site.begin()

    assert site.accept(site.sealed(site.message(0)), site.sealed(site.message(0, patient=1), patient=1))

    assert site.store.count("reading") == 1
    assert site.rows("SELECT reason FROM dead_letter") == [("processing",)]
    assert sorted(ack.stage for ack in site.acks()) == [Stage.STORED, Stage.REJECTED]


def test_a_timer_that_fails_for_one_patient_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = PatientMonitor.on_timer
    site = Site(tmp_path)
    bed_1, bed_2 = (binding.binding_id.hex() for binding in site.demo.bindings)

    def on_timer(monitor: PatientMonitor, now_ms: int) -> object:
        if monitor.stay_id == bed_1:
            raise ZeroDivisionError
        return healthy(monitor, now_ms)

    monkeypatch.setattr(PatientMonitor, "on_timer", on_timer)
    site.begin()
    site.send(site.message(0))
    site.send(site.message(0, patient=1), patient=1)

    site.clock.advance(2 * HOUR)
    assert site.stream.accept([])

    silent = site.rows("SELECT DISTINCT binding_id FROM alarm WHERE rule_id = 'no_data'")
    assert silent == [(bed_2,)]


def test_what_lay_in_an_outbox_is_for_the_record_and_does_not_sound(tmp_path: Path) -> None:
    # 08:00 .. 08:30 the edge heard its patient, who was ill from 08:05 to 08:15, and could not reach the cloud.
    site = Site(tmp_path)
    site.begin()
    backlog = [
        site.message(minute * MINUTE, **({"respiratory_rate": 26.0, "spo2": 90.0} if 5 <= minute <= 15 else {}))
        for minute in range(31)
    ]
    site.clock.set_wall(NOW + 30 * MINUTE)

    site.send(backlog[-1])  # the newest first
    site.send(*backlog[:-1])

    news2 = [alarm for alarm in site.alarms if alarm.rule_id == "news2"]
    assert [alarm.retrospective for alarm in news2] == [True]
    assert site.rows("SELECT count(*) FROM reading") == [(31,)]
    assert site.rows("SELECT count(*) FROM news2") == [(1,)]


def test_a_recording_played_again_to_a_cloud_that_lost_its_store_does_not_sound(tmp_path: Path) -> None:
    site = Site(tmp_path)
    frames = [site.session().frame, site.sealed(site.message(0, respiratory_rate=26.0, spo2=90.0))]
    site.accept(*frames)
    before = site.rows("SELECT reading_id FROM reading")
    assert [alarm.rule_id for alarm in site.alarms] == ["news2"]
    site.alarms.clear()
    site.store.close()
    for file in tmp_path.glob("store.sqlite*"):
        file.unlink()

    site.start()
    site.clock.advance(HOUR)
    site.accept(*frames)

    assert site.rows("SELECT reading_id FROM reading") == before
    sounding = {alarm.rule_id for alarm in site.alarms if not alarm.retrospective}
    assert sounding <= {"no_data"}  # there is none, and that is true


# What is not believed


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("heart_rate", float("nan"), Reason.VALUE),
        ("spo2", float("inf"), Reason.VALUE),
        ("systolic_bp", 1e9, Reason.VALUE),
        ("temperature", -2e4, Reason.VALUE),
        ("consciousness", 7, Reason.VALUE),
        ("t_quality", 9, Reason.VALUE),
        ("t_ms", -5, Reason.VALUE),
        ("heart_rate", "fast", Reason.SCHEMA),
    ],
)
def test_what_no_sensor_can_say_is_refused_counted_and_kept(
    name: str, value: object, reason: Reason, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.begin()
    good = site.message(0)
    vitals = {field: getattr(good.vitals, field) for field in good.vitals.__struct_fields__} | {name: value}
    bad = worse(good, vitals=type(good.vitals)(**vitals))

    assert site.accept(site.sealed(bad), site.sealed(site.message(5 * SECOND)))

    assert site.store.count("reading") == 1
    assert site.rows("SELECT reason FROM dead_letter") == [(reason.value,)]
    assert site.rows("SELECT reason, count FROM reject") == [(reason.value, 1)]
    (refusal,) = [ack for ack in site.acks() if ack.stage is Stage.REJECTED]
    assert refusal.ranges == ((0, 0),)


def test_what_was_refused_is_not_signed_for_when_it_comes_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    bad = site.sealed(site.message(0, heart_rate=float("nan")))
    site.accept(bad)
    site.acks()

    site.accept(bad)
    again = site.acks()
    site.restart()
    site.accept(bad)
    after_a_restart = site.acks()

    assert [ack.stage for ack in (*again, *after_a_restart)] == [Stage.REJECTED, Stage.REJECTED]
    assert site.store.count("dead_letter") == 1


def test_one_damaged_state_does_not_leave_the_others_unwatched(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    site.send(site.message(0))
    site.send(site.message(0, patient=1), patient=1)
    bed_1 = site.demo.bindings[0].binding_id.hex()
    with site.store.transaction():
        site.store.put_states({bed_1: b"\xc1 damaged"})

    site.restart()
    assert site.send(site.message(5 * SECOND))
    assert site.send(site.message(5 * SECOND, patient=1), patient=1)

    assert site.store.count("reading") == site.store.count("news2") == 4


def test_an_unknown_sign_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    # One field more than the schema has.
    packed = encode(site.message(0))
    longer = bytes([packed[0] + 1]) + packed[1:] + b"\xcb" + bytes(8)

    site.accept(site.session().seal(longer)[1])

    assert site.rows("SELECT reason FROM dead_letter") == [("schema",)]
    assert site.store.count("reading") == 0


def test_a_reading_of_another_patient_s_wearable_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()

    site.accept(site.sealed(site.message(0, patient=1), patient=0))

    assert site.rows("SELECT reason FROM dead_letter") == [("binding",)]


def test_an_edge_whose_clock_is_ten_years_ahead_does_not_make_the_rest_late(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    ten_years_ms = 3_653 * 24 * HOUR
    ahead = site.message(0)
    ahead = worse(ahead, at_ms=ahead.at_ms + ten_years_ms, received_ms=ahead.received_ms + ten_years_ms)

    site.accept(site.sealed(ahead))
    site.send(site.message(10 * SECOND))

    assert site.rows("SELECT at_ms, late, sensor_flags FROM reading ORDER BY seq") == [
        (NOW, 0, int(SensorFlag.CLOCK_CLAMPED)),
        (NOW + 10 * SECOND, 0, 0),
    ]
    assert site.store.count("news2") == 2


def test_garbage_is_counted_by_device_and_reason_and_changes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    good = site.sealed(site.message(0))
    flipped = good[:-1] + bytes([good[-1] ^ 1])

    assert site.accept(flipped, b"", b"x" * 9_000, good[:60], good)

    assert site.store.count("reading") == 1
    assert dict(site.rows("SELECT reason, sum(count) FROM reject GROUP BY 1")) == {"auth": 1, "length": 3}
    assert site.stream.counts.rejected == {"auth": 1, "length": 3}


def test_a_frame_of_a_session_that_is_not_known_is_answered_with_a_question(tmp_path: Path) -> None:
    site = Site(tmp_path)

    site.accept(site.sealed(site.message(0)))

    (ack,) = site.acks()
    assert (ack.stage, ack.session_id) == (Stage.NEED_SESSION, site.session().session_id)


def test_a_message_that_an_engine_refuses_leaves_no_trace_in_memory(tmp_path: Path, stores: list[Store]) -> None:
    engine = an_engine(tmp_path / "store", stores)
    engine.apply([reading(0)])

    def no_disk() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(CommitFailed):
        engine.apply([reading(5_000, spo2=80.0)], beside=no_disk)
    events = engine.apply([reading(5_000, spo2=97.0)])  # the same counter, so it would be a duplicate

    assert len(events) > 1
    assert engine.store.count("reading") == 2


def test_unused_sessions_are_deleted_after_a_while(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    site.send(site.message(0))
    old = site.session()
    site._sessions.clear()
    assert site.edge.recipient is not None
    younger = type(old).open(
        site.edge.me,
        site.edge.recipient,
        binding_id=old.info.binding_id,
        frame_class=1,
        number=NOW + 1,
        previous=old.session_id,
        now_ms=NOW,
    )
    site.accept(younger.frame)
    assert site.store.count("rx_session") == 3

    site.clock.advance(15 * 24 * HOUR)
    site.accept(younger.frame)
    site.accept(old.frame)

    assert {row.session_id for row in site.store.sessions()} & {old.session_id, younger.session_id} == {
        younger.session_id
    }
    assert site.stream.counts.rejected == {Reason.CLONE_OR_ROLLBACK.value: 1}


def test_a_reading_keeps_its_values_to_the_last_bit(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.begin()
    sent = site.message(0, heart_rate=70.123456789, temperature=36.6)

    site.send(sent)

    expected = to_reading(sent, site.demo.bindings[0].binding_id)
    assert site.rows("SELECT reading_id, heart_rate, temperature FROM reading") == [
        (expected.reading_id, 70.123456789, 36.6)
    ]

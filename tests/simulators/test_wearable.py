"""Stories about devices: what they say of a body, what they leave out, and what they keep."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.errors import TimeRanBackwards
from simulators.physiology import Sign
from simulators.scenarios import MINUTE_MS, scenario
from simulators.wearable import StoreBuffer, WearableKind, Wearables, WearableSpec, measured_by
from vitals.messages import ClockQuality, Consciousness, SensorFlag
from wire.codec import VitalsV1, encode

START_MS = 1_790_000_000_000


def a_ward(name: str = "stable", patients: int = 10, **changes: object) -> Wearables:
    spec = WearableSpec(**changes)  # type: ignore[arg-type]
    return Wearables([scenario(name)] * patients, seed=1, start_ms=START_MS, spec=spec)


def readings(ward: Wearables, minutes: float) -> list[list[VitalsV1 | None]]:
    return [row for _, row in ward.run(START_MS + round(minutes * MINUTE_MS))]


def measured(rows: list[list[VitalsV1 | None]]) -> list[VitalsV1]:
    return [sample for row in rows for sample in row if sample is not None]


def digest(rows: list[list[VitalsV1 | None]], bed: int) -> str:
    frames = b"".join(b"-" if sample is None else encode(sample) for sample in (row[bed] for row in rows))
    return hashlib.sha256(frames).hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again = (readings(a_ward("mixed", 40), 30) for _ in range(2))

    assert [digest(first, bed) for bed in range(40)] == [digest(again, bed) for bed in range(40)]
    assert len({digest(first, bed) for bed in range(40)}) == 40


def test_a_wearable_gives_the_same_bytes_whatever_the_size_of_the_ward() -> None:
    whole = readings(a_ward("mixed", 40), 30)
    alone = Wearables([scenario("mixed")], seed=1, start_ms=START_MS, first=14)

    assert digest(readings(alone, 30), 0) == digest(whole, 14)


def test_the_first_reading_holds_every_sign_so_that_a_score_is_complete_at_once() -> None:
    first = a_ward(patients=200, missing_share=0.0, lost_share=0.0).read(START_MS)

    for sample in first:
        assert sample is not None
        signs = (
            sample.heart_rate,
            sample.respiratory_rate,
            sample.spo2,
            sample.supplemental_oxygen,
            sample.systolic_bp,
            sample.diastolic_bp,
            sample.temperature,
            sample.consciousness,
        )
        assert None not in signs


def test_slow_signs_come_at_their_own_pace() -> None:
    rows = readings(a_ward(patients=20, missing_share=0.0, lost_share=0.0), 60)

    for bed in range(20):
        samples = [row[bed] for row in rows]
        count = {
            name: sum(getattr(sample, name) is not None for sample in samples)
            for name in (
                "heart_rate",
                "respiratory_rate",
                "spo2",
                "temperature",
                "systolic_bp",
                "diastolic_bp",
                "supplemental_oxygen",
                "consciousness",
            )
        }
        assert count["heart_rate"] == count["respiratory_rate"] == count["spo2"] == 720
        assert 60 <= count["temperature"] <= 61
        assert count["systolic_bp"] == count["diastolic_bp"]
        assert 4 <= count["systolic_bp"] <= 5
        assert count["supplemental_oxygen"] == count["consciousness"] == 1


@pytest.mark.parametrize("cuff_ms", [MINUTE_MS, 5 * MINUTE_MS])
@pytest.mark.parametrize("temperature_ms", [MINUTE_MS, 5 * MINUTE_MS])
def test_each_slow_sign_comes_at_its_cadence_also_if_another_has_the_same(cuff_ms: int, temperature_ms: int) -> None:
    ward = a_ward(patients=5, missing_share=0.0, lost_share=0.0, cuff_ms=cuff_ms, temperature_ms=temperature_ms)
    rows = readings(ward, 60)

    for bed in range(5):
        samples = [row[bed] for row in rows]
        pressures = sum(sample is not None and sample.systolic_bp is not None for sample in samples)
        temperatures = sum(sample is not None and sample.temperature is not None for sample in samples)
        assert 0 <= pressures - 60 * MINUTE_MS // cuff_ms <= 1
        assert 0 <= temperatures - 60 * MINUTE_MS // temperature_ms <= 1


def test_cuffs_of_a_ward_do_not_all_inflate_together_after_the_start() -> None:
    rows = readings(a_ward(patients=100), 15)

    together = [sum(sample is not None and sample.systolic_bp is not None for sample in row) for row in rows[1:]]

    assert max(together) < 10


def test_values_have_the_resolution_of_the_device() -> None:
    for sample in measured(readings(a_ward("sepsis-onset"), 20)):
        for value in (
            sample.heart_rate,
            sample.respiratory_rate,
            sample.spo2,
            sample.systolic_bp,
            sample.diastolic_bp,
            sample.battery,
        ):
            assert value is None or value == round(value)
        assert sample.temperature is None or sample.temperature == round(sample.temperature, 1)


def test_errors_of_a_resting_ward_lie_within_the_standards() -> None:
    ward = a_ward(patients=300)
    pairs = []
    for _, row in ward.run(START_MS + 10 * MINUTE_MS):
        body = ward.cohort.signs
        pairs += [
            (sample.heart_rate - body[0, bed], sample.spo2 - body[2, bed])
            for bed, sample in enumerate(row)
            if sample is not None
            and sample.heart_rate is not None
            and sample.spo2 is not None
            and ward.cohort.activity[bed] == 0
        ]

    def rms(errors: list[float]) -> float:
        return float((sum(error * error for error in errors) / len(errors)) ** 0.5)

    assert rms([heart for heart, _ in pairs]) < 5
    assert rms([oxygen for _, oxygen in pairs]) < 3


def test_some_readings_and_some_values_fail() -> None:
    rows = readings(a_ward(patients=100, lost_share=0.05, missing_share=0.10), 10)

    lost = sum(sample is None for row in rows for sample in row) / (100 * len(rows))
    without_heart = sum(sample.heart_rate is None for sample in measured(rows)) / len(measured(rows))

    assert 0.04 < lost < 0.06
    assert 0.09 < without_heart < 0.11


def test_a_detached_wearable_sets_its_flag_and_cools() -> None:
    rows = readings(a_ward("sensor-off", patients=20, missing_share=0.0, lost_share=0.0), 50)

    for bed in range(20):
        samples = [row[bed] for row in rows]
        minute = dict(enumerate(samples))
        off = [sample for sample in samples if sample is not None and sample.sensor_flags & SensorFlag.SENSOR_OFF]
        assert len(off) == 30 * 12
        assert not minute[4 * 12].sensor_flags & SensorFlag.SENSOR_OFF  # type: ignore[union-attr]
        assert min(sample.temperature for sample in off if sample.temperature is not None) < 23
        assert sum(sample.heart_rate is None for sample in off) > len(off) / 2
        assert all(sample.systolic_bp is None for sample in off)
        back = [
            sample.temperature for sample in samples[45 * 12 :] if sample is not None and sample.temperature is not None
        ]
        assert min(back) > 35


def test_a_flat_battery_warns_and_then_there_is_silence() -> None:
    rows = readings(a_ward("flat-battery", patients=10, lost_share=0.0), 30)

    for bed in range(10):
        samples = [row[bed] for row in rows]
        last = max(at for at, sample in enumerate(samples) if sample is not None)
        warned = next(
            at for at, sample in enumerate(samples) if sample and sample.sensor_flags & SensorFlag.BATTERY_LOW
        )
        assert 10 * 12 <= warned < last < 25 * 12
        assert all(sample is None for sample in samples[last + 1 :])


def test_motion_is_flagged_and_makes_breathing_the_least_reliable() -> None:
    still, moving = (measured(readings(a_ward(name, patients=50), 8)) for name in ("stable", "motion"))
    flagged = [sample for sample in moving if sample.sensor_flags & SensorFlag.MOTION]

    def spread(samples: list[VitalsV1]) -> float:
        values = [sample.respiratory_rate for sample in samples if sample.respiratory_rate is not None]
        mean = sum(values) / len(values)
        return float((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)

    assert len(flagged) > 0.4 * len(moving)
    assert spread(flagged) > 2 * spread(still)


def test_low_pressure_is_low_perfusion() -> None:
    rows = readings(a_ward("haemorrhage", patients=50), 40)
    flagged = [sample for sample in measured(rows[-12:]) if sample.sensor_flags & SensorFlag.LOW_PERFUSION]

    assert len(flagged) > 100
    assert not any(sample.sensor_flags & SensorFlag.LOW_PERFUSION for sample in measured(rows[:12]))


def test_uptime_never_jumps_and_the_clock_is_set_every_hour() -> None:
    rows = readings(a_ward(patients=20, lost_share=0.0), 130)

    for bed in range(20):
        samples = [row[bed] for row in rows]
        ups = [sample.uptime_ms for sample in samples if sample]
        walls = [sample.t_ms for sample in samples if sample]
        assert all(4_990 <= later - earlier <= 5_010 for earlier, later in pairwise(ups))
        assert all(earlier < later for earlier, later in pairwise(walls))
        errors = [wall - (START_MS + place * 5_000) for place, wall in enumerate(walls)]
        assert max(map(abs, errors)) < 1_000
        assert len(set(errors)) > 1


def test_a_clock_that_is_never_set_is_flagged() -> None:
    samples = measured(readings(a_ward(sync_ms=None), 5))

    assert {sample.t_quality for sample in samples} == {ClockQuality.FREE_RUNNING}
    assert max(abs(sample.t_ms - START_MS) for sample in samples) > 10_000


def test_a_sick_ward_sends_nothing_that_a_reading_cannot_carry() -> None:
    for name in ("haemorrhage", "motion", "sensor-off", "atrial-fibrillation"):
        for sample in measured(readings(a_ward(name, patients=5), 60)):
            assert sample.spo2 is None or 0 <= sample.spo2 <= 100
            assert sample.heart_rate is None or 0 <= sample.heart_rate <= 300
            assert sample.battery is not None
            assert 0 <= sample.battery <= 100


def test_a_ward_does_not_go_back_in_time() -> None:
    ward = a_ward()
    ward.read(START_MS + 60_000)

    with pytest.raises(TimeRanBackwards):
        ward.read(START_MS)


# --- what a wearable keeps ------------------------------------------------------------------------------------------


def a_sample(uptime_ms: int, heart_rate: float | None = 70.0, consciousness: int | None = None) -> VitalsV1:
    return VitalsV1(
        t_ms=START_MS + uptime_ms, t_quality=2, uptime_ms=uptime_ms, heart_rate=heart_rate, consciousness=consciousness
    )


def test_what_is_durable_elsewhere_is_freed() -> None:
    buffer = StoreBuffer()
    numbers = [buffer.add(a_sample(at_ms)) for at_ms in range(0, 50_000, 5_000)]

    freed = buffer.acknowledge([*numbers[:4], numbers[0], 999])

    assert freed == 4
    assert [number for number, _ in buffer.kept()] == numbers[4:]


def test_a_full_buffer_thins_its_oldest_five_minutes_to_what_tells_most() -> None:
    #   heart rate  70 70 .. 40 .. 160 .. 70 | next five minutes
    buffer = StoreBuffer(limit=60)
    for place in range(60):
        rate = {20: 40.0, 30: 160.0}.get(place, 70.0)
        buffer.add(a_sample(place * 5_000, rate, consciousness=1 if place == 10 else None))

    buffer.add(a_sample(300_000))

    kept = [(sample.uptime_ms // 5_000, sample.heart_rate) for _, sample in buffer.kept()]
    assert kept == [(10, 70.0), (20, 40.0), (30, 160.0), (59, 70.0), (60, 70.0)]
    assert (buffer.thinned, buffer.shed) == (56, 0)


def test_when_everything_is_thinned_the_oldest_goes_and_is_counted() -> None:
    buffer = StoreBuffer(limit=6, slot_ms=10_000)
    for at_ms in range(0, 200_000, 2_000):
        buffer.add(a_sample(at_ms, 60.0 + at_ms % 7))

    assert len(buffer) <= 6
    assert buffer.shed > 0
    assert len(buffer) + buffer.thinned + buffer.shed == 100


@settings(max_examples=40, deadline=None)
@given(
    gaps_ms=st.lists(st.integers(1, 200_000), min_size=1, max_size=200),
    limit=st.integers(1, 40),
    freed=st.sets(st.integers(0, 199)),
)
def test_a_buffer_never_exceeds_its_bound_and_loses_nothing_uncounted(
    gaps_ms: list[int], limit: int, freed: set[int]
) -> None:
    buffer, at_ms, acknowledged = StoreBuffer(limit=limit), 0, 0
    for place, gap_ms in enumerate(gaps_ms):
        at_ms += gap_ms
        number = buffer.add(a_sample(at_ms, float(place % 13)))
        assert len(buffer) <= limit
        if place in freed:
            acknowledged += buffer.acknowledge([number])

    assert len(buffer) + buffer.thinned + buffer.shed + acknowledged == len(gaps_ms)
    assert [number for number, _ in buffer.kept()] == sorted(number for number, _ in buffer.kept())


# Several devices on one patient


def test_two_devices_of_a_patient_measure_one_body_with_errors_of_their_own() -> None:
    first = a_ward("hypoxia", patients=20, missing_share=0.0, lost_share=0.0)
    second = Wearables([scenario("hypoxia")] * 20, seed=1, start_ms=START_MS, spec=first.spec, on=first, number=1)
    rows = [(first.read(START_MS + at), second.read(START_MS + at)) for at in range(0, 20 * MINUTE_MS, 5_000)]

    pairs = [
        (one.spo2, other.spo2)
        for here, there in rows
        for one, other in zip(here, there, strict=True)
        if one is not None and other is not None and one.spo2 is not None and other.spo2 is not None
    ]
    assert len(pairs) > 4_000
    assert sum(one != other for one, other in pairs) > len(pairs) / 2
    assert sum(abs(one - other) for one, other in pairs) / len(pairs) < 3
    assert min(one for one, _ in pairs) < 88  # both see the patient get worse
    assert min(other for _, other in pairs) < 88


def test_a_device_beside_others_changes_nothing_about_them() -> None:
    alone = readings(a_ward("mixed", 8), 10)
    first = a_ward("mixed", 8)
    beside = Wearables([scenario("mixed")] * 8, seed=1, start_ms=START_MS, spec=first.spec, on=first, number=1)
    together = []
    for at in range(0, 10 * MINUTE_MS, 5_000):
        together.append(first.read(START_MS + at))
        beside.read(START_MS + at)

    assert [digest(together, bed) for bed in range(8)] == [digest(alone, bed) for bed in range(8)]


@pytest.mark.parametrize(
    ("kind", "signs"),
    [
        (WearableKind.PATCH, {"heart_rate", "respiratory_rate", "temperature"}),
        (WearableKind.OXIMETER, {"spo2", "heart_rate"}),
        (WearableKind.CUFF, {"systolic_bp", "diastolic_bp"}),
        (WearableKind.THERMOMETER, {"temperature"}),
    ],
)
def test_a_device_sends_what_it_measures_and_nothing_else(kind: WearableKind, signs: set[str]) -> None:
    names = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "temperature", "consciousness")
    samples = measured(readings(a_ward(patients=3), 30))
    sent = [part for sample in samples if (part := measured_by(kind, sample)) is not None]

    assert {name for part in sent for name in names if getattr(part, name) is not None} == signs


def test_a_cuff_is_silent_between_two_measurements() -> None:
    samples = measured(readings(a_ward(patients=1, lost_share=0.0, cuff_ms=15 * MINUTE_MS), 60))

    sent = [sample for sample in samples if measured_by(WearableKind.CUFF, sample) is not None]

    assert 4 <= len(sent) <= 5
    assert all(sample.systolic_bp is not None for sample in sent)


def test_a_patch_falls_off_and_the_clip_on_the_finger_stays() -> None:
    first = a_ward("sensor-off", patients=1, missing_share=0.0, lost_share=0.0)
    clip = Wearables([scenario("sensor-off")], seed=1, start_ms=START_MS, spec=first.spec, on=first, number=1)
    rows = [(first.read(START_MS + at)[0], clip.read(START_MS + at)[0]) for at in range(0, 10 * MINUTE_MS, 5_000)]

    patch, finger = rows[-1]
    assert patch is not None
    assert finger is not None
    assert patch.sensor_flags & SensorFlag.SENSOR_OFF
    assert not finger.sensor_flags & SensorFlag.SENSOR_OFF


def test_the_body_is_what_a_nurse_can_see() -> None:
    ward = a_ward("sepsis-onset", patients=1)
    for _ in ward.run(START_MS + 200 * MINUTE_MS):
        pass

    body = ward.body(0)

    assert body.consciousness is Consciousness.CONFUSION
    assert body.temperature == pytest.approx(float(ward.cohort.signs[Sign.TEMPERATURE][0]))
    assert body.diastolic_bp < body.systolic_bp

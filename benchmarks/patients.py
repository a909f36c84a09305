"""Cost of a patient in the monitor: bytes of state, snapshot and restore, and cost of a reading by number of patients.

The same readings are also dealt out over six devices of the patient, which a nurse's observation joins.

`python -m benchmarks.patients [--json] [--quick]`
"""

import time
import tracemalloc

from msgspec.structs import replace

from benchmarks._timing import QUICK, microseconds, report
from simulators.stories import START_MS, Simulated
from vitals.messages import Consciousness, Observation, Reading, Tick
from vitals.monitor import PatientMonitor
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

PLAN = MonitoringPlan()
SIZES = (10, 100) if QUICK else (100, 1_000, 10_000)
HOURS = 0.1 if QUICK else 4
READINGS = 500 if QUICK else 5_000  # minimum number of readings in a timed batch
AIM_BYTES = 2_048
DEVICES = 6


def main() -> None:
    readings = _story("mixed", patients=8, readings=round(HOURS * 720 * 8))
    monitors = _monitors(readings)
    states = sorted(len(monitor.snapshot()) for monitor in monitors.values())
    quiet = [len(monitor.snapshot()) for monitor in monitors.values() if not monitor.open_alarms()]
    snapshots = [(stay_id, monitor.snapshot()) for stay_id, monitor in monitors.items()]

    def snapshot() -> int:
        for _ in range(200):
            for monitor in monitors.values():
                monitor.snapshot()
        return 200 * len(monitors)

    def restore() -> int:
        for _ in range(200):
            for stay_id, state in snapshots:
                PatientMonitor.restore(stay_id, state, PLAN)
        return 200 * len(snapshots)

    cost = microseconds({"snapshot": snapshot, "restore": restore})
    growth = {size: _per_reading(size) for size in SIZES}
    alone, six = _by_devices(1), _by_devices(DEVICES)
    memory = _memory_of(50 if QUICK else 1_000)
    rows = [
        ("state of a quiet patient", f"{max(quiet, default=0)} B"),
        ("state of the worst of 8 patients", f"{states[-1]} B"),
        ("snapshot", f"{cost['snapshot']:.1f} µs"),
        ("restore", f"{cost['restore']:.1f} µs"),
        ("a reading and its snapshot, one device", f"{alone[0]:.1f} µs, {alone[1]} B"),
        (f"the same of {DEVICES} devices", f"{six[0]:.1f} µs, {six[1]} B, ratio {six[0] / alone[0]:.2f}"),
        ("memory of a patient in a process", f"{memory / 1_024:.1f} kB"),
        *((f"a reading among {size:,} patients", f"{growth[size]:.1f} µs") for size in SIZES),
        (f"{SIZES[-1]:,} compared with {SIZES[0]} patients", f"ratio {growth[SIZES[-1]] / growth[SIZES[0]]:.2f}"),
    ]
    report(
        "one patient",
        rows,
        ("measurement", "value"),
        {
            "state_bytes_quiet": max(quiet, default=0),
            "state_bytes_worst": states[-1],
            "aim_bytes": AIM_BYTES,
            "snapshot_us": round(cost["snapshot"], 2),
            "restore_us": round(cost["restore"], 2),
            "memory_bytes_per_patient": round(memory),
            "us_per_reading": {str(size): round(value, 2) for size, value in growth.items()},
            "us_with_snapshot_one_device": round(alone[0], 2),
            "us_with_snapshot_six_devices": round(six[0], 2),
            "state_bytes_six_devices": six[1],
            "devices_ratio": round(six[0] / alone[0], 3),
            "growth": round(growth[SIZES[-1]] / growth[SIZES[0]], 3),
        },
    )


def _story(name: str, *, patients: int, readings: int) -> list[Reading]:
    found: list[Reading] = []
    counters = [0] * patients
    for moment in Simulated(name, patients=patients, seed=1, cadence_ms=5_000).moments():
        for index, sample in moment.samples:
            found.append(_reading(index, sample, counters[index]))
            counters[index] += 1
        if len(found) >= readings:
            return found
    raise AssertionError("a simulated story is endless")


def _reading(index: int, sample: VitalsV1, counter: int) -> Reading:
    name = index.to_bytes(16, "big")
    origin = OriginV1(wearable_id=name, session_id=name, counter=counter)
    message = EdgeVitalsV1(
        origin=origin,
        vitals=sample,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms + 100,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )
    return to_reading(message, name)


def _monitors(readings: list[Reading]) -> dict[str, PatientMonitor]:
    monitors: dict[str, PatientMonitor] = {}
    for reading in readings:
        monitor = monitors.setdefault(reading.stay_id, PatientMonitor(reading.stay_id, PLAN))
        monitor.on_reading(reading)
    return monitors


def _per_reading(patients: int) -> float:
    """Processor time of a reading in a stable ward in µs, with timers and snapshots: minimum of three rounds."""
    per_round, rounds = max(patients, READINGS), 3
    patterns = _story("stable", patients=20, readings=20 * 40)
    by_patient = [[one for one in patterns if one.stay_id == index.to_bytes(16, "big").hex()] for index in range(20)]
    ward = Patients(lambda _: PLAN)
    best, step = float("inf"), 0
    for turn in range(rounds + 1):
        batch: list[Reading] = []
        while len(batch) < per_round:
            at_ms = START_MS + step * 5_000
            for index in range(patients):
                like = by_patient[index % 20][step % len(by_patient[index % 20])]
                name = index.to_bytes(16, "big")
                batch.append(
                    replace(
                        like,
                        stay_id=name.hex(),
                        session_id=name,
                        counter=step,
                        at_ms=at_ms,
                        received_ms=at_ms + 100,
                    )
                )
            step += 1
        began = time.process_time_ns()
        for at in range(0, len(batch), 64):
            for reading in batch[at : at + 64]:
                ward.apply(reading)
            ward.apply(Tick(now_ms=batch[min(at + 63, len(batch) - 1)].received_ms))
            ward.drain()
        if turn:
            best = min(best, (time.process_time_ns() - began) / len(batch) / 1_000)
    return best


def _by_devices(devices: int) -> tuple[float, int]:
    """Processor time of a reading with its snapshot in µs, least of three rounds, and bytes of the state at the end.

    The readings of one patient are dealt out in turn over the devices of the stay.
    """
    readings = _story("stable", patients=1, readings=READINGS)
    stay_id = readings[0].stay_id
    names = [bytes.fromhex(stay_id), *(n.to_bytes(16, "big") for n in range(1, devices))]
    dealt = [
        replace(
            one,
            session_id=names[n % devices],
            counter=n // devices,
            binding_id=names[n % devices].hex() if n % devices else "",
        )
        for n, one in enumerate(readings)
    ]
    best, state = float("inf"), b""
    for _ in range(3):
        monitor = PatientMonitor(stay_id, PLAN)
        if devices > 1:
            monitor.on_observation(_observation(stay_id, dealt[0].at_ms))
        began = time.process_time_ns()
        for reading in dealt:
            while (due_ms := monitor.timer_at()) is not None and due_ms < reading.at_ms:
                monitor.on_timer(due_ms)
            monitor.on_reading(reading)
            state = monitor.snapshot()
        best = min(best, (time.process_time_ns() - began) / len(dealt) / 1_000)
    return best, len(state)


def _observation(stay_id: str, at_ms: int) -> Observation:
    return Observation(
        stay_id=stay_id,
        observation_id=bytes(16),
        by="anna",
        at_ms=at_ms,
        entered_ms=at_ms,
        heard_ms=at_ms,
        consciousness=Consciousness.ALERT,
        supplemental_oxygen=0.0,
    )


def _memory_of(patients: int) -> float:
    readings = _story("stable", patients=20, readings=20 * 60)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    monitors = []
    for index in range(patients):
        stay_id = (index % 20).to_bytes(16, "big").hex()
        monitor = PatientMonitor(stay_id, PLAN)
        for reading in readings:
            if reading.stay_id == stay_id:
                monitor.on_reading(reading)
        monitors.append(monitor)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(monitors) == patients
    return (after - before) / patients


if __name__ == "__main__":
    main()

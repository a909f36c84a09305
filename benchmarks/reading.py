"""Processor time of one reading in each stage of the pipeline, on one core.

`python -m benchmarks.reading [--json] [--quick]`
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks._timing import QUICK, microseconds, report
from edge.outbox import Batch, Outbox, Sealed
from edge.pipeline import Pipeline
from edge.scoring import Scoring
from models.artifacts import RELEASED, load_all
from simulators.made_up import DemoSite, demo_site
from simulators.stories import START_MS, Simulated
from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.ingest.frames import FrameOpener
from vitals import news2
from vitals.messages import Message, Reading, Tick
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.signs import VitalSign
from wire.codec import VitalsV1, decode_vitals, encode, to_reading
from wire.envelope import FrameClass
from wire.identity import NOTHING, BindingRecord
from wire.receiver import Opened, RateLimits, Receiver
from wire.sessions import SendSession
from wire.topics import e_up

PATIENTS = 8
READINGS = 200 if QUICK else 4_000
PLAN = MonitoringPlan()
LIMITS = RateLimits(frames_per_s=1e9, frames_burst=1_000_000_000, sessions_per_min=1e9)


def a_scoring() -> Scoring:
    """Scoring with the released models, as on an edge."""
    return Scoring(load_all(RELEASED), lambda _: NOTHING)


class ReadingPath:
    """The same readings as input of every stage, with the stages as methods."""

    def __init__(self) -> None:
        self.site = demo_site(wearables=PATIENTS, edges=1, now_ms=START_MS)
        self.samples = list(_samples())
        self.sessions = [_session(self.site, index) for index in range(PATIENTS)]
        self.frames = [(index, self.sessions[index].seal(encode(sample))[1]) for index, sample in self.samples]
        receiver = self.receiver()
        self.opened = [self._open(receiver, frame) for _, frame in self.frames]
        self.vitals = [decode_vitals(opened.payload) for opened in self.opened]
        pipeline = Pipeline(lambda _: PLAN, (), a_scoring())
        self.messages = [
            pipeline.judge(opened, vitals, self.binding(opened), received_ms=vitals.t_ms).message
            for opened, vitals in zip(self.opened, self.vitals, strict=True)
        ]
        self.readings = [
            to_reading(message, opened.binding_id) for message, opened in zip(self.messages, self.opened, strict=True)
        ]
        edge = self.site.edges[0]
        self.edge_sessions = [
            _opened_session(edge.me, edge.recipient, binding.binding_id) for binding in self.site.bindings
        ]
        self.sealed = [
            self.edge_sessions[index].seal(encode(message))[1]
            for (index, _), message in zip(self.samples, self.messages, strict=True)
        ]

    def binding(self, opened: Opened) -> BindingRecord:
        found = self.site.ingest.directory.binding(opened.binding_id)
        assert found is not None
        return found

    def receiver(self) -> Receiver:
        edge = self.site.edges[0]
        receiver = Receiver(edge.me, edge.directory, limits=LIMITS)
        for session in self.sessions:
            receiver.receive(session.frame, topic_device=None, now_ms=START_MS, mono_ms=0)
        return receiver

    def _open(self, receiver: Receiver, frame: bytes) -> Opened:
        opened = receiver.receive(frame, topic_device=None, now_ms=START_MS, mono_ms=0)
        assert isinstance(opened, Opened)
        return opened

    # Stages: each processes READINGS readings

    def seal(self) -> int:
        sessions = self.sessions
        for index, sample in self.samples:
            sessions[index].seal(encode(sample))
        return READINGS

    def open(self) -> int:
        receiver = self.receiver()
        for _, frame in self.frames:
            opened = receiver.receive(frame, topic_device=None, now_ms=START_MS, mono_ms=0)
            assert isinstance(opened, Opened)
            decode_vitals(opened.payload)
        return READINGS

    def pipeline(self) -> int:
        pipeline = Pipeline(lambda _: PLAN, (), a_scoring())
        bindings = {one.binding_id: one for one in self.site.bindings}
        for opened, vitals in zip(self.opened, self.vitals, strict=True):
            pipeline.judge(opened, vitals, bindings[opened.binding_id], received_ms=vitals.t_ms)
        return READINGS

    def seal_again(self) -> int:
        sessions = self.edge_sessions
        for (index, _), message in zip(self.samples, self.messages, strict=True):
            sessions[index].seal(encode(message))
        return READINGS

    def outbox(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            box = Outbox.open(Path(folder) / "outbox.sqlite", budget_bytes=256 << 20, now_ms=START_MS)
            sid = self.edge_sessions[0].session_id
            for at in range(0, READINGS, 64):
                rows = [
                    Sealed(box.new_id(), 1, 0, sid, at + n, START_MS, frame)
                    for n, frame in enumerate(self.sealed[at : at + 64])
                ]
                box.commit(Batch(rows=rows))
            box.close()
        return READINGS

    def ingest(self) -> int:
        cloud, edge = self.site.ingest, self.site.edges[0].me
        ingest = FrameOpener(cloud.me, cloud.directory, limits=LIMITS)
        topic = e_up(edge.device_id, FrameClass.VITALS)
        now_ms = self.readings[-1].at_ms
        for session in self.edge_sessions:
            ingest.accept(topic, session.frame, now_ms=now_ms, mono_ms=0)
        for frame in self.sealed:
            ingest.accept(topic, frame, now_ms=now_ms, mono_ms=0)
        return READINGS

    def monitor(self) -> int:
        monitors = {one.binding_id.hex(): PatientMonitor(one.binding_id.hex(), PLAN) for one in self.site.bindings}
        for reading in self.readings:
            monitors[reading.stay_id].on_reading(reading)
        return READINGS

    def store(self) -> int:
        """The whole engine in batches of 64; `main` subtracts the cost of the monitor."""
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite") as store:
            engine = Engine(store, lambda _: PLAN)
            for at in range(0, READINGS, 64):
                batch: list[Message] = [*self.readings[at : at + 64]]
                engine.apply([*batch, Tick(now_ms=self.readings[min(at + 63, READINGS - 1)].at_ms)])
        return READINGS

    # For comparison

    def bare_cipher(self) -> int:
        cipher, payload, nonce = ChaCha20Poly1305(bytes(32)), bytes(96), bytes(12)
        for _ in range(READINGS):
            cipher.encrypt(nonce, payload, b"")
        return READINGS

    def bare_news2(self) -> int:
        for reading in self.readings:
            _bare_news2(reading)
        return READINGS


def _bare_news2(reading: Reading) -> int:
    named: dict[VitalSign, tuple[float | None, int | None]] = {
        VitalSign.HEART_RATE: (reading.heart_rate, 0),
        VitalSign.RESPIRATORY_RATE: (reading.respiratory_rate, 0),
        VitalSign.SPO2: (reading.spo2, 0),
        VitalSign.TEMPERATURE: (reading.temperature, 0),
        VitalSign.SYSTOLIC_BP: (reading.systolic_bp, 0),
    }
    return news2.score({sign: pair for sign, pair in named.items() if pair[0] is not None}).at_least


def _samples() -> Iterator[tuple[int, VitalsV1]]:
    count = 0
    for moment in Simulated("mixed", patients=PATIENTS, seed=1, cadence_ms=5_000).moments():
        for sample in moment.samples:
            yield sample
            count += 1
            if count == READINGS:
                return


def _session(site: DemoSite, index: int) -> SendSession:
    provision = site.wearables[index]
    return _opened_session(provision.me, provision.recipient, site.bindings[index].binding_id)


def _opened_session(me: "object", recipient: "object", binding_id: bytes) -> SendSession:
    return SendSession.open(
        me,  # type: ignore[arg-type]
        recipient,  # type: ignore[arg-type]
        binding_id=binding_id,
        frame_class=FrameClass.VITALS,
        number=START_MS,
        previous=bytes(16),
        now_ms=START_MS,
        entropy=random.Random(binding_id).randbytes,
    )


LABELS = {
    "seal": "wearable encrypts",
    "open": "edge decrypts and decodes",
    "pipeline": "edge evaluates: event time, quality, scores, alarms",
    "seal_again": "edge encrypts for the cloud",
    "outbox": "outbox, 64 readings per commit",
    "ingest": "ingest decrypts and decodes",
    "monitor": "processor: PatientMonitor",
    "store": "store, 64 readings per commit, with snapshots",
}


def main() -> None:
    path = ReadingPath()
    stages = {name: getattr(path, name) for name in LABELS}
    cost = microseconds({**stages, "bare_cipher": path.bare_cipher, "bare_news2": path.bare_news2})
    cost["store"] = max(cost["store"] - cost["monitor"], 0.0)
    total = sum(cost[name] for name in LABELS)
    largest = max(LABELS, key=lambda name: cost[name])
    rows: list[tuple[str, ...]] = [
        (label, f"{cost[name]:.1f}", f"{1e6 / cost[name]:,.0f}", f"{100 * cost[name] / total:.0f} %")
        for name, label in LABELS.items()
    ]
    rows.append(("all stages", f"{total:.1f}", f"{1e6 / total:,.0f}", "100 %"))
    rows.append(("for comparison: ChaCha20-Poly1305 alone", f"{cost['bare_cipher']:.1f}", "", ""))
    rows.append(("for comparison: NEWS2 of one reading alone", f"{cost['bare_news2']:.1f}", "", ""))
    report(
        "one reading, one core",
        rows,
        ("stage", "µs per reading", "readings per second", "share"),
        {
            "us": {name: round(value, 2) for name, value in cost.items()},
            "readings_per_s_per_core": round(1e6 / total),
            "edge_readings_per_s_per_core": round(
                1e6 / (cost["open"] + cost["pipeline"] + cost["seal_again"] + cost["outbox"])
            ),
            "largest": largest,
            "largest_share": round(cost[largest] / total, 3),
            "seal_times_bare_cipher": round(cost["seal"] / cost["bare_cipher"], 1),
            "monitor_times_bare_news2": round(cost["monitor"] / cost["bare_news2"], 1),
        },
    )


if __name__ == "__main__":
    main()

"""Stays of one to six devices behind one or two edges: what an edge has sent is stored once, and acknowledged to it."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from simulators.made_up import demo_site
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.records import ObservationRecord
from tests.stream.receiving_site import HOUR, NOW, SECOND, UNLIMITED
from vitals.messages import Consciousness, Observation
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, encode
from wire.envelope import FrameClass, Stage, open_ack
from wire.identity import BindingRecord
from wire.mqtt import Inbound
from wire.sessions import SendSession
from wire.topics import e_up


class Stay:
    """One patient with several devices, edges that seal what they hear, and an engine."""

    def __init__(self, folder: Path, *, devices: int, edges: int) -> None:
        self.demo = demo_site(wearables=devices, edges=edges, now_ms=NOW)
        first = self.demo.bindings[0]
        self.stay_id = first.binding_id.hex()
        for one in self.demo.bindings[1:]:
            fields = {name: getattr(one, name) for name in one.__struct_fields__}
            same = {"stay_id": first.binding_id, "patient": first.patient, "bed": first.bed}
            self.demo.ingest.directory.put(BindingRecord(**fields | same))
        self.clock = ManualClock(NOW)
        self.path = folder / "store.sqlite"
        self.sent: list[set[tuple[bytes, int]]] = [set() for _ in range(edges)]
        self.acknowledged: list[set[tuple[bytes, int]]] = [set() for _ in range(edges)]
        self._sessions: dict[int, SendSession] = {}
        self._mid = 0
        self.start()

    def start(self) -> None:
        self.store = Store(self.path)
        self.stream = EmbeddedStream(
            self.demo.ingest.me,
            self.demo.ingest.directory,
            self.store,
            lambda _: MonitoringPlan(),
            self.clock,
            limits=UNLIMITED,
            ack_interval_ms=0,
        )

    def restart(self) -> None:
        self.store.close()
        self.start()

    def edge_of(self, device: int) -> int:
        return device % len(self.demo.edges)

    def frame(self, device: int, after_ms: int, **signs: Any) -> tuple[int, bytes]:
        """A reading as the edge of the device seals it."""
        binding, edge = self.demo.bindings[device], self.edge_of(device)
        message = EdgeVitalsV1(
            origin=OriginV1(
                wearable_id=binding.wearable_id, session_id=bytes([device + 1]) * 16, counter=after_ms // SECOND
            ),
            vitals=VitalsV1(t_ms=NOW + after_ms, t_quality=2, uptime_ms=after_ms + HOUR, **signs),
            at_ms=NOW + after_ms,
            received_ms=NOW + after_ms,
            sensor_flags=0,
            unusable=0,
        )
        session = self._sessions.get(device) or self._begin(device, edge, binding)
        counter, frame = session.seal(encode(message))
        self.sent[edge].add((session.session_id, counter))
        return edge, frame

    def accept(self, edge: int, frame: bytes) -> None:
        self._mid += 1
        sender = self.demo.edges[edge].me.device_id
        assert self.stream.accept([Inbound(e_up(sender, FrameClass.VITALS), frame, 1, self._mid)])
        key = self.demo.ingest.me.signing_key.public_key()
        for owed in self.stream.owed():
            to = next(n for n, one in enumerate(self.demo.edges) if one.me.device_id == owed.to)
            ack = open_ack(owed.frame, key)
            if ack.stage is Stage.STORED:
                self.acknowledged[to] |= {(ack.session_id, n) for low, high in ack.ranges for n in range(low, high + 1)}

    def _begin(self, device: int, edge: int, binding: BindingRecord) -> SendSession:
        recipient = self.demo.edges[edge].recipient
        assert recipient is not None
        made = self._sessions[device] = SendSession.open(
            self.demo.edges[edge].me,
            recipient,
            binding_id=binding.binding_id,
            frame_class=FrameClass.VITALS,
            number=NOW + device,
            previous=bytes(16),
            now_ms=NOW,
            entropy=random.Random(device).randbytes,
        )
        self.accept(edge, made.frame)
        return made


@pytest.mark.parametrize("edges", [1, 2])
@pytest.mark.parametrize("devices", range(1, 7))
def test_nothing_is_lost_or_stored_twice_whatever_edges_repeat_and_whenever_it_restarts(
    devices: int, edges: int, tmp_path: Path
) -> None:
    stay, draw = Stay(tmp_path, devices=devices, edges=min(edges, devices)), random.Random(devices)
    waiting: list[tuple[int, bytes]] = []
    for second in range(60):
        stay.clock.set_wall(NOW + second * SECOND)
        frame = stay.frame(second % devices, second * SECOND, heart_rate=70.0 + second % 5, spo2=97.0)
        edge_is_cut_off = frame[0] == 1 and 20 <= second < 40
        if edge_is_cut_off:
            waiting.append(frame)
            continue
        for edge, late in waiting if second >= 40 else ():
            stay.accept(edge, late)
        waiting = [] if second >= 40 else waiting
        stay.accept(*frame)
        if draw.random() < 0.2:
            stay.accept(*frame)  # the broker delivers it again
        if draw.random() < 0.1:
            stay.restart()
    for edge, late in waiting:
        stay.accept(edge, late)

    assert stay.store.query("SELECT count(*), count(DISTINCT reading_id) FROM reading") == [(60, 60)]
    assert [row[0] for row in stay.store.query("SELECT binding_id FROM patient_state")] == [stay.stay_id]
    assert {row[0] for row in stay.store.query("SELECT DISTINCT binding_id FROM reading")} == {stay.stay_id}
    others = {one.binding_id.hex() for one in stay.demo.bindings[1:]}
    assert {row[0] for row in stay.store.query("SELECT DISTINCT device FROM reading")} == {"", *others}
    assert stay.acknowledged == stay.sent
    stay.store.close()


def an_observation(stay: Stay) -> Observation:
    return Observation(
        stay_id=stay.stay_id,
        observation_id=b"o" * 16,
        by="anna",
        at_ms=NOW,
        entered_ms=NOW,
        heard_ms=NOW,
        consciousness=Consciousness.VOICE,
    )


@pytest.mark.parametrize("again", [False, True])
def test_what_is_entered_at_the_desk_is_in_the_record_once(again: bool, tmp_path: Path) -> None:
    stay = Stay(tmp_path, devices=1, edges=1)

    async def story() -> None:
        for _ in range(1 + again):
            entered = asyncio.create_task(stay.stream.put_entry(ObservationRecord(message=an_observation(stay))))
            await asyncio.sleep(0)
            stay.clock.advance(SECOND)
            stay.stream.apply_entries()
            await entered

    asyncio.run(story())

    assert stay.store.query("SELECT binding_id, observer, heard_ms FROM observation") == [
        (stay.stay_id, "anna", NOW + SECOND)
    ]
    assert stay.stream.counts.entries == 1 + again
    stay.store.close()

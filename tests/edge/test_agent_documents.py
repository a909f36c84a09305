"""The agent follows what the data centre signs: whom it hears, from when, and whom no longer."""

import random
from pathlib import Path
from typing import Any

import pytest

from edge.agent import EdgeAgent
from edge.config import EdgeConfig, OutboxConfig
from stream.site.directory import RegistryDirectory
from tests.edge.benches import HOUR, MINUTE, SECOND, UNLIMITED, WELL, Hand
from tests.stream.site.registries import NOW, Desk
from wire.codec import HeartbeatV1, VitalsV1, decode_heartbeat, encode
from wire.enrol.wallet import Wallet
from wire.envelope import FrameClass
from wire.errors import Reason
from wire.mqtt import Inbound
from wire.receiver import Opened, Receiver
from wire.sessions import SendSession
from wire.topics import e_down, parse, w_up, w_up_of


class Bed:
    """An enrolled edge and two enrolled wearables; nobody is on a patient yet."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder)
        self.edge, self.ann, self.bob = self.desk.enrol("edge"), self.desk.enrol(), self.desk.enrol()
        self.config = EdgeConfig(
            identity=self.edge.folder,
            data_dir=folder / "data",
            limits=UNLIMITED,
            outbox=OutboxConfig(budget_mb=64, commit_ms=0),
        )
        self.cloud = Wallet.load(self.desk.site.ingest_folder).me
        self.receiver = Receiver(self.cloud, RegistryDirectory(self.desk.registry), limits=UNLIMITED)
        self.heard: dict[bytes, bytes] = {}  # the last reading of each wearable, sealed
        self._number = NOW
        self.start()

    def start(self) -> None:
        self.hand = Hand()
        self.agent = EdgeAgent(
            self.config, self.edge.provision, self.desk.clock, rng=random.Random(1), wallet=self.edge
        )

    def turn(self, *messages: tuple[str, bytes], after_ms: int = 100) -> None:
        self.desk.clock.advance(after_ms)
        self.agent._turn(self.hand, [Inbound(topic, frame, 1, 1) for topic, frame in messages])  # type: ignore[arg-type]

    def hear(self, *frames: bytes) -> None:
        """On the way down, from the data centre or whoever passes for it."""
        self.turn(*((e_down(self.edge.me.device_id), frame) for frame in frames))

    def documents(self) -> list[bytes]:
        """All that the edge is to know now."""
        return self.desk.registry.documents.documents_for(self.edge.me.device_id)

    def reading(self, wearable: Wallet) -> None:
        """A wearable begins a session and says one reading."""
        self.desk.deliver(wearable)
        binding, recipient = wearable.assignment(self.desk.clock.now_ms()), wearable.provision.recipient
        assert binding is not None
        assert recipient is not None
        self._number += 1
        session = SendSession.open(
            wearable.me,
            recipient,
            binding_id=binding.binding_id,
            frame_class=FrameClass.VITALS,
            number=self._number,
            previous=bytes(16),
            now_ms=self.desk.clock.now_ms(),
        )
        when: dict[str, Any] = {"t_ms": self.desk.clock.now_ms(), "t_quality": 2, "uptime_ms": HOUR}
        topic = w_up(wearable.me.device_id, FrameClass.VITALS)
        sealed = session.seal(encode(VitalsV1(**{**when, **WELL})))[1]
        self.turn((topic, session.frame), (topic, sealed))
        self.heard[wearable.me.device_id] = sealed

    def heartbeat(self) -> HeartbeatV1:
        """What the edge says of itself next."""
        self.hand.published.clear()
        self.turn(after_ms=MINUTE)
        for topic, frame in self.hand.published:
            if parse(topic).branch == "e":
                opened = self.receiver.receive(
                    frame, topic_device=None, now_ms=self.desk.clock.now_ms(), mono_ms=self.desk.clock.mono_ms()
                )
                if isinstance(opened, Opened) and opened.frame_class == FrameClass.HEARTBEAT:
                    return decode_heartbeat(opened.payload)
        raise AssertionError("no heartbeat")


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_wearable_is_heard_from_the_document_on_that_says_so(bed: Bed) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    bed.reading(bed.ann)
    assert (bed.agent.counts.accepted, bed.agent.counts.rejected) == (0, {Reason.UNKNOWN_SENDER: 2})

    bed.hear(*bed.documents())
    bed.reading(bed.ann)

    assert bed.agent.counts.accepted == 1
    assert bed.hand.subscribed == [w_up_of(bed.ann.me.device_id)]


def test_a_revoked_wearable_is_refused_from_the_next_frame_on_and_the_other_is_not(bed: Bed) -> None:
    for wearable, patient in ((bed.ann, "P0001"), (bed.bob, "P0002")):
        bed.desk.bind(wearable, bed.edge, patient=patient, bed=patient)
    bed.hear(*bed.documents())
    bed.reading(bed.ann)

    bed.desk.registry.revoke(bed.ann.me.device_id, why="lost", who="tester")
    bed.hear(*bed.documents())
    bed.reading(bed.bob)

    assert bed.agent.counts.accepted == 2
    bed.turn((w_up(bed.ann.me.device_id, FrameClass.VITALS), bed.heard[bed.ann.me.device_id]), after_ms=SECOND)
    assert bed.agent.counts.rejected == {Reason.REVOKED: 1}


def test_what_a_revoked_wearable_still_seals_is_refused(bed: Bed) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    bed.hear(*bed.documents())
    bed.reading(bed.ann)
    known = bed.ann.assignment(bed.desk.clock.now_ms())
    bed.desk.registry.revoke(bed.ann.me.device_id, why="lost", who="tester")

    bed.hear(*bed.documents())
    assert known is not None
    assert bed.ann.provision.recipient is not None
    thief = SendSession.open(
        bed.ann.me,
        bed.ann.provision.recipient,
        binding_id=known.binding_id,
        frame_class=FrameClass.VITALS,
        number=NOW + 99,
        previous=bytes(16),
        now_ms=bed.desk.clock.now_ms(),
    )
    bed.turn((w_up(bed.ann.me.device_id, FrameClass.VITALS), thief.frame))

    assert bed.agent.counts.rejected == {Reason.REVOKED: 1}


@pytest.mark.parametrize(
    ("damage", "reason"), [("a bit", Reason.SIGNATURE), ("signed by a stranger", Reason.UNKNOWN_SENDER)]
)
def test_what_the_data_centre_has_not_signed_changes_nothing(
    damage: str, reason: Reason, bed: Bed, tmp_path: Path
) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    frames = bed.documents()
    if damage == "a bit":
        frames = [frame[:-70] + bytes([frame[-70] ^ 1]) + frame[-69:] for frame in frames]
    else:
        other = Desk(tmp_path / "other")
        wearable, edge = other.enrol(), other.enrol("edge")
        other.bind(wearable, edge)
        frames = other.registry.documents.documents_for(edge.me.device_id)
    before = bed.edge.digest

    bed.hear(*frames)

    assert bed.agent.counts.rejected == {reason: len(frames)}
    assert bed.edge.digest == before
    assert bed.edge.provision.directory.bindings() == ()


def test_a_binding_of_another_edge_is_not_ours(bed: Bed) -> None:
    another = bed.desk.enrol("edge")
    bed.desk.bind(bed.bob, another, patient="P0002")

    bed.hear(*bed.desk.registry.documents.documents_for(another.me.device_id))

    assert bed.agent.counts.rejected == {Reason.PREKEY: 1}  # it is sealed, and not to us
    assert bed.edge.provision.directory.bindings() == ()


def test_an_older_document_is_nothing_new_whoever_brings_it(bed: Bed) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    old = bed.documents()
    bed.hear(*old)
    bed.desk.registry.revoke(bed.ann.me.device_id, why="lost", who="tester")
    bed.hear(*bed.documents())
    taken = bed.agent.counts.documents

    bed.hear(*old)  # a recording

    assert bed.agent.counts.documents == taken
    record = bed.edge.provision.directory.sender(bed.ann.me.device_id)
    assert record is not None
    assert record.revoked


def test_heartbeats_say_what_was_taken_and_the_registry_reckons_the_same(bed: Bed) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    wanted = bed.desk.registry.documents.digest_for(bed.edge.me.device_id)
    assert bed.heartbeat().documents != wanted

    bed.hear(*bed.documents())

    assert bed.heartbeat().documents == wanted == bed.edge.digest


def test_after_a_restart_all_is_as_it_was_said(bed: Bed) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    bed.hear(*bed.documents())
    bed.agent.close()

    bed.edge = Wallet.load(bed.edge.folder)
    bed.start()
    bed.reading(bed.ann)

    assert bed.agent.counts.accepted == 1
    assert w_up_of(bed.ann.me.device_id) in bed.agent.subscriptions


def test_a_full_disk_keeps_no_revocation_from_being_in_force(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.desk.bind(bed.ann, bed.edge)
    bed.hear(*bed.documents())
    bed.desk.registry.revoke(bed.ann.me.device_id, why="lost", who="tester")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wire.enrol.kept_documents.write_private", full)
    bed.hear(*bed.documents())

    record = bed.edge.provision.directory.sender(bed.ann.me.device_id)
    assert record is not None
    assert record.revoked

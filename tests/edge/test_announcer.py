"""What an edge tells its wearables: whom they are on, again when they ask, and not to anybody who asks for others."""

import random
from pathlib import Path

import pytest

from edge.agent import EdgeAgent
from edge.announcer import ANNOUNCE_EVERY_MS, ANSWER_EVERY_MS
from edge.config import EdgeConfig, OutboxConfig
from tests.edge.benches import UNLIMITED, Hand
from tests.stream.site.registries import Desk
from wire.enrol.documents import WANTED, DocumentType, is_document, open_document
from wire.enrol.wallet import Wallet
from wire.envelope import FrameClass
from wire.mqtt import Inbound
from wire.topics import w_down, w_up


class Ward:
    """An edge with one wearable of its own, and a wearable of somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder)
        self.edge, self.wearable, self.stranger = (
            self.desk.enrol("edge"), self.desk.enrol(), self.desk.enrol()
        )  # fmt: skip
        self.desk.bind(self.wearable, self.edge)
        self.desk.deliver(self.edge)
        config = EdgeConfig(
            identity=self.edge.folder, data_dir=folder / "data", limits=UNLIMITED, outbox=OutboxConfig(budget_mb=64)
        )
        self.hand = Hand()
        self.agent = EdgeAgent(
            config, self.edge.provision, self.desk.clock, rng=random.Random(1), wallet=self.edge
        )  # fmt: skip

    def turn(self, *asking: Wallet, after_ms: int = 0) -> list[bytes]:
        """One turn of the loop; the documents that leave in it."""
        self.desk.clock.advance(after_ms)
        self.hand.published.clear()
        questions = [Inbound(w_up(one.me.device_id, FrameClass.CONTROL), WANTED, 1, 7) for one in asking]
        self.agent._turn(self.hand, questions)  # type: ignore[arg-type]
        topic = w_down(self.wearable.me.device_id)
        told = [frame for to, frame in self.hand.published if is_document(frame)]
        assert {to for to, frame in self.hand.published if is_document(frame)} <= {topic}
        return told


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def test_a_wearable_is_told_once_and_then_every_five_minutes(ward: Ward) -> None:
    first = ward.turn()

    kinds = [open_document(frame, ward.desk.registry_keys()).type for frame in first]
    assert kinds == [DocumentType.CONTROL_KEYS, DocumentType.DEVICE, DocumentType.ASSIGNMENT]
    assert [ward.turn(after_ms=1_000) for _ in range(20)] == [[]] * 20
    assert ward.turn(after_ms=ANNOUNCE_EVERY_MS) == first


def test_what_it_is_told_is_all_that_it_needs(ward: Ward) -> None:
    now_ms = ward.desk.clock.now_ms()
    assert ward.wearable.assignment(now_ms) is None

    for frame in ward.turn():
        ward.wearable.take(frame)

    assert ward.wearable.assignment(now_ms) is not None
    assert ward.wearable.provision.recipient == ward.edge.me.recipient()


def test_one_that_was_not_there_asks_and_is_told_at_once(ward: Ward) -> None:
    first = ward.turn()

    assert ward.turn(ward.wearable, after_ms=5_000) == first
    assert ward.hand.pubacks[-1] == 7
    assert ward.agent.counts.rejected == {}


def test_whoever_asks_all_the_time_is_told_once_a_second(ward: Ward) -> None:
    ward.turn()

    told = [ward.turn(ward.wearable, after_ms=ANSWER_EVERY_MS // 10) for _ in range(50)]

    assert sum(map(bool, told)) == 5


def test_a_stranger_s_question_is_answered_with_nothing_and_costs_no_memory(ward: Ward) -> None:
    ward.turn()

    assert ward.turn(ward.stranger, after_ms=5_000) == []
    assert ward.agent._announcer._answered == {}

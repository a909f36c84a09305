"""What edges hear of people's answers: at once, again while the alarm is open, and never more than was answered."""

from typing import Any

import msgspec

from simulators.made_up import demo_site
from stream.ingest.edge_answers import EdgeAnswers
from stream.records import EdgeAlarmRecord
from tests.stream.desk.alarms import NOW, SECOND, an_alarm, an_id, told_by_edge
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority, Silence
from wire.answers import Answer, AnswerKind, condition_of, open_answer
from wire.identity import BindingRecord
from wire.topics import e_down_alarm


class Post:
    """Answers of one site, and a broker that has room or has none."""

    def __init__(self) -> None:
        site = demo_site(wearables=1, edges=1, now_ms=NOW)
        self.edge_id = site.edges[0].me.device_id
        self.binding = site.bindings[0].binding_id
        self._key = site.ingest.me.signing_key.public_key()
        self.answers = EdgeAnswers(site.ingest.me, site.ingest.directory)
        self.has_room = True
        self._sent: list[Answer] = []

    @property
    def condition(self) -> int:
        alarm = an_alarm()
        return condition_of(alarm.rule_id, alarm.key)

    def alarm(self, **changes: Any) -> AlarmChanged:
        return an_alarm(stay_id=self.binding.hex(), **changes)

    def order(self, order: Acknowledge | Silence) -> None:
        self.answers.answered(self.answers.answers_to(order))

    def sent(self) -> list[Answer]:
        """Since the last call."""
        self.answers.send(self._publish)
        sent, self._sent = self._sent, []
        return sent

    def _publish(self, topic: str, frame: bytes) -> bool:
        if self.has_room:
            assert topic == e_down_alarm(self.edge_id)
            self._sent.append(open_answer(frame, self.edge_id, self._key))
        return self.has_room


def test_an_acknowledgement_is_sent_at_once_and_after_every_heartbeat_until_the_alarm_is_over() -> None:
    post = Post()
    post.answers.alarm_changed(post.alarm())
    assert post.sent() == []

    answered = {"acknowledged_by": "anna", "acknowledged_ms": NOW + 5 * SECOND}
    post.answers.alarm_changed(post.alarm(revision=1, **answered))
    answer = Answer(AnswerKind.ACKNOWLEDGED, 3, NOW + 5 * SECOND, 0, post.binding, an_id(), 0, post.condition)
    assert post.sent() == [answer]

    post.answers.alarm_changed(post.alarm(revision=2, text="another value", **answered))
    assert post.sent() == []
    post.answers.edge_heard(b"another edge 16.")
    assert post.sent() == []
    post.answers.edge_heard(post.edge_id)
    assert post.sent() == [answer]

    post.answers.alarm_changed(post.alarm(revision=3, state=AlarmState.CLEARED, **answered))
    post.answers.edge_heard(post.edge_id)
    assert post.sent() == []


def test_a_silence_is_sent_and_what_got_worse_is_not_answered_any_more() -> None:
    post = Post()
    until_ms = NOW + 600 * SECOND
    post.answers.alarm_changed(post.alarm(priority=Priority.MEDIUM, silenced_until_ms=until_ms))
    assert post.sent() == [Answer(AnswerKind.SILENCED, 2, 0, until_ms, post.binding, an_id(), 0, post.condition)]

    post.answers.alarm_changed(post.alarm(revision=1, priority=Priority.HIGH))
    post.answers.edge_heard(post.edge_id)
    assert post.sent() == []


def test_an_answer_waits_for_room() -> None:
    post = Post()
    post.has_room = False
    post.answers.alarm_changed(post.alarm(acknowledged_by="anna", acknowledged_ms=NOW))
    assert post.sent() == []

    post.has_room = True

    assert [one.alarm_id for one in post.sent()] == [an_id()]


def test_an_answer_to_what_only_the_edge_has_found_goes_to_that_edge_unless_it_got_worse_meanwhile() -> None:
    post = Post()
    found = msgspec.structs.replace(told_by_edge(5, arrived_ms=NOW, priority=2), stay_id=post.binding.hex())
    post.answers.found_by_edge(found)

    about = {"stay_id": post.binding.hex(), "by": "anna"}
    post.order(Acknowledge(alarm_id=an_id(5), at_ms=NOW + SECOND, **about))
    post.order(Acknowledge(alarm_id=an_id(6), at_ms=NOW + SECOND, **about))
    post.order(Silence(rule_id="news2", key="spo2", at_ms=NOW + SECOND, until_ms=NOW + 9 * SECOND, **about))
    post.order(Silence(rule_id="news2", key="", at_ms=NOW + SECOND, until_ms=NOW + 9 * SECOND, **about))
    assert post.sent() == [
        Answer(AnswerKind.ACKNOWLEDGED, 2, NOW + SECOND, 0, post.binding, an_id(5), 0, condition_of("news2", "")),
        Answer(AnswerKind.SILENCED, 2, 0, NOW + 9 * SECOND, post.binding, an_id(5), 0, condition_of("news2", "")),
    ]

    worse = told_by_edge(5, arrived_ms=NOW + 3 * SECOND, priority=3)
    post.answers.found_by_edge(msgspec.structs.replace(worse, stay_id=post.binding.hex()))
    post.order(Acknowledge(alarm_id=an_id(5), at_ms=NOW + 2 * SECOND, **about))
    post.answers.edge_heard(post.edge_id)
    assert post.sent() == []


def test_an_answer_is_compared_with_arrivals_by_their_clock() -> None:
    """The clock of the machine was set back an hour; arrivals have one that does not step."""
    post = Post()
    post.answers.found_by_edge(msgspec.structs.replace(told_by_edge(5), stay_id=post.binding.hex()))
    order = Acknowledge(stay_id=post.binding.hex(), alarm_id=an_id(5), at_ms=NOW - 3_600 * SECOND, by="anna")

    assert post.answers.answers_to(order) == []
    assert [one.alarm_id for one in post.answers.answers_to(order, given_ms=NOW + SECOND)] == [an_id(5)]


class TwoEdges(Post):
    """A stay with a device at each of two edges, and a device that was taken off at a third."""

    def __init__(self) -> None:
        super().__init__()
        site = demo_site(wearables=3, edges=3, now_ms=NOW)
        directory = site.ingest.directory
        first = site.bindings[0]
        for number, one in enumerate(site.bindings[1:]):
            fields = {name: getattr(one, name) for name in one.__struct_fields__}
            end = {"valid_to_ms": NOW - SECOND, "stay_goes_on": True} if number else {}
            directory.put(BindingRecord(**fields | end | {"stay_id": first.binding_id}))
        self.binding = first.binding_id
        self.edges = [one.me.device_id for one in site.edges]
        self.answers = EdgeAnswers(site.ingest.me, directory)
        self.to: list[tuple[int, bytes]] = []
        self._keys = site.ingest.me.signing_key.public_key()

    def _publish(self, topic: str, frame: bytes) -> bool:
        edge = next(number for number, one in enumerate(self.edges) if topic == e_down_alarm(one))
        self.to.append((edge, open_answer(frame, self.edges[edge], self._keys).alarm_id))
        return True

    def heard(self) -> set[tuple[int, bytes]]:
        """Edge and alarm of what was sent since the last call."""
        self.answers.send(self._publish)
        found, self.to = set(self.to), []
        return found

    def told(self, number: int, edge: int, **changes: Any) -> EdgeAlarmRecord:
        found = told_by_edge(number, **changes)
        frame = msgspec.structs.replace(found.frame, edge_id=self.edges[edge])
        return msgspec.structs.replace(found, stay_id=self.binding.hex(), frame=frame)


def test_every_edge_that_hears_the_stay_hears_of_an_answer() -> None:
    post = TwoEdges()

    post.answers.alarm_changed(post.alarm(revision=1, acknowledged_by="anna", acknowledged_ms=NOW))
    assert post.heard() == {(0, an_id()), (1, an_id())}

    post.answers.edge_heard(post.edges[1])
    assert post.heard() == {(1, an_id())}


def test_an_edge_that_told_of_an_alarm_hears_of_its_answer_though_its_device_was_taken_off() -> None:
    post = TwoEdges()
    post.answers.found_by_edge(post.told(7, edge=2))

    post.order(Acknowledge(stay_id=post.binding.hex(), alarm_id=an_id(7), by="anna", at_ms=NOW))

    assert post.heard() == {(0, an_id(7)), (1, an_id(7)), (2, an_id(7))}


def test_a_silence_goes_to_each_edge_about_the_alarm_that_it_knows() -> None:
    post = TwoEdges()
    post.answers.found_by_edge(post.told(7, edge=0))
    post.answers.found_by_edge(post.told(8, edge=1))

    post.order(Silence(stay_id=post.binding.hex(), rule_id="news2", key="", by="anna", at_ms=NOW, until_ms=NOW + 9))

    assert post.heard() >= {(0, an_id(7)), (1, an_id(8))}


def test_the_end_at_one_edge_forgets_no_answer_to_the_other_about_the_same_id() -> None:
    post = TwoEdges()
    post.answers.found_by_edge(post.told(7, edge=0))
    post.answers.found_by_edge(post.told(7, edge=1))
    post.order(Acknowledge(stay_id=post.binding.hex(), alarm_id=an_id(7), by="anna", at_ms=NOW))
    post.heard()

    post.answers.found_by_edge(post.told(7, edge=0, state="cleared", revision=1))
    post.answers.edge_heard(post.edges[1])

    assert post.heard() == {(1, an_id(7))}

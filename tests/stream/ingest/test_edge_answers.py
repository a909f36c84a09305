"""What edges hear of people's answers: at once, again while the alarm is open, and never more than was answered."""

from typing import Any

import msgspec

from simulators.made_up import demo_site
from stream.ingest.edge_answers import EdgeAnswers
from tests.stream.desk.alarms import NOW, SECOND, an_alarm, an_id, told_by_edge
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority, Silence
from wire.answers import Answer, AnswerKind, open_answer
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

    def alarm(self, **changes: Any) -> AlarmChanged:
        return an_alarm(binding_id=self.binding.hex(), **changes)

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
    answer = Answer(AnswerKind.ACKNOWLEDGED, 3, NOW + 5 * SECOND, 0, post.binding, an_id())
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
    assert post.sent() == [Answer(AnswerKind.SILENCED, 2, 0, until_ms, post.binding, an_id())]

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
    found = msgspec.structs.replace(told_by_edge(5, arrived_ms=NOW, priority=2), binding_id=post.binding.hex())
    post.answers.found_by_edge(found)

    about = {"binding_id": post.binding.hex(), "by": "anna"}
    post.order(Acknowledge(alarm_id=an_id(5), at_ms=NOW + SECOND, **about))
    post.order(Acknowledge(alarm_id=an_id(6), at_ms=NOW + SECOND, **about))
    post.order(Silence(rule_id="news2", key="spo2", at_ms=NOW + SECOND, until_ms=NOW + 9 * SECOND, **about))
    post.order(Silence(rule_id="news2", key="", at_ms=NOW + SECOND, until_ms=NOW + 9 * SECOND, **about))
    assert post.sent() == [
        Answer(AnswerKind.ACKNOWLEDGED, 2, NOW + SECOND, 0, post.binding, an_id(5)),
        Answer(AnswerKind.SILENCED, 2, 0, NOW + 9 * SECOND, post.binding, an_id(5)),
    ]

    worse = told_by_edge(5, arrived_ms=NOW + 3 * SECOND, priority=3)
    post.answers.found_by_edge(msgspec.structs.replace(worse, binding_id=post.binding.hex()))
    post.order(Acknowledge(alarm_id=an_id(5), at_ms=NOW + 2 * SECOND, **about))
    post.answers.edge_heard(post.edge_id)
    assert post.sent() == []


def test_an_answer_is_compared_with_arrivals_by_their_clock() -> None:
    """The clock of the machine was set back an hour; arrivals have one that does not step."""
    post = Post()
    post.answers.found_by_edge(msgspec.structs.replace(told_by_edge(5), binding_id=post.binding.hex()))
    order = Acknowledge(binding_id=post.binding.hex(), alarm_id=an_id(5), at_ms=NOW - 3_600 * SECOND, by="anna")

    assert post.answers.answers_to(order) == []
    assert [one.alarm_id for one in post.answers.answers_to(order, given_ms=NOW + SECOND)] == [an_id(5)]

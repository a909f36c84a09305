"""Tells edges what people answered: at once, and again after every heartbeat of the edge while the alarm is open.

Pure. An edge that lost the connection before an answer, or was restarted, hears of it with its next heartbeat. A stay
may be heard by several edges: each hears of every answer, and one about an alarm of its own has the id that it knows.
Answers to alarms of the data centre are in the alarms' record. Those to alarms that only an edge has found are nowhere
else, so the caller stores them (`answers_to`) before they are sent, and gives them back after a restart.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from stream.ingest.stays import edges_of
from stream.records import EdgeAlarmRecord
from vitals.alarms import WORSE_BY
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Silence
from wire.answers import MOST_GRADE, Answer, AnswerKind, build_answer, condition_of
from wire.codec import EdgeAlarmV1
from wire.identity import NO_DEVICE, DeviceIdentity, Directory
from wire.topics import e_down_alarm

_EDGE_ALARMS_KEPT: Final = 10_000


class EdgeAnswers:
    """Answers to alarms that are open.

    Args:
        me: signs.
        directory: the edges of a stay.
        found: the stored open alarms of edges, oldest first.
        answers: the stored answers to alarms of edges.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        *,
        found: Iterable[EdgeAlarmRecord] = (),
        answers: Iterable[Answer] = (),
    ) -> None:
        self._me = me
        self._directory = directory
        self._open: dict[bytes, tuple[Answer, ...]] = {}  # by alarm id
        self._found: OrderedDict[bytes, EdgeAlarmRecord] = OrderedDict()  # open alarms that edges told of, newest last
        self._at_edge: dict[bytes, dict[AnswerKind, Answer]] = {}  # answers to those, by alarm id
        self._due: dict[tuple[bytes, bytes, AnswerKind], Answer] = {}  # by edge and alarm id
        for one in found:
            self.found_by_edge(one)
        self.answered(answers)

    def alarm_changed(self, alarm: AlarmChanged) -> None:
        """An alarm of the data centre is committed as it stands now."""
        self._at_edge.pop(alarm.alarm_id, None)  # from now on the data centre's record counts
        if alarm.state is not AlarmState.ACTIVE or alarm.retrospective:
            self._open.pop(alarm.alarm_id, None)
            return
        self._answered(alarm.alarm_id, _answers_of(alarm))

    def found_by_edge(self, found: EdgeAlarmRecord) -> None:
        """An edge told of an alarm."""
        alarm_id, is_open = found.alarm.alarm_id, found.alarm.state == AlarmState.ACTIVE
        before = self._found.get(alarm_id)
        if before is not None and before.frame.edge_id != found.frame.edge_id and not is_open:
            return  # another edge still has it open
        self._found.pop(alarm_id, None)
        if is_open:
            self._found[alarm_id] = found
            while len(self._found) > _EDGE_ALARMS_KEPT:
                self._at_edge.pop(self._found.popitem(last=False)[0], None)
        about = self._at_edge.get(alarm_id, {})
        for kind in [kind for kind, answer in about.items() if alarm_id not in self._found or _is_worse(found, answer)]:
            del about[kind]

    def answers_to(self, order: Acknowledge | Silence, *, given_ms: int | None = None) -> list[Answer]:
        """The answers that an order means for alarms that only edges have found. They are to be stored.

        Args:
            given_ms: when it was given, by the clock of arrivals; None: as the order says.
        """
        at_ms = order.at_ms if given_ms is None else given_ms
        answers = (
            _answer_to(found, order, at_ms) for alarm_id, found in self._found.items() if alarm_id not in self._open
        )
        return [answer for answer in answers if answer is not None]

    def answered(self, answers: Iterable[Answer]) -> None:
        """These are stored: they go to the edges that told of the alarms, as long as those are open and not worse."""
        for answer in answers:
            found = self._found.get(answer.alarm_id)
            if found is not None and not _is_worse(found, answer):
                self._at_edge.setdefault(answer.alarm_id, {})[answer.kind] = answer
                self._send_soon(answer)

    def edge_heard(self, edge_id: bytes) -> None:
        """A heartbeat came: this edge hears again of every answer to an alarm that is open."""
        for answers in (*self._open.values(), *(about.values() for about in self._at_edge.values())):
            for answer in answers:
                if edge_id in self._edges_of(answer):
                    self._due[edge_id, answer.alarm_id, answer.kind] = answer

    def send(self, publish: Callable[[str, bytes], bool]) -> None:
        """Send what is due.

        Args:
            publish: called with topic and frame; False if there is no room, then the rest waits.
        """
        for key, answer in list(self._due.items()):
            edge_id = key[0]
            frame = build_answer(self._me.signing_key, answer, sender=self._me.device_id, edge_id=edge_id)
            if not publish(e_down_alarm(edge_id), frame):
                return
            del self._due[key]

    def _answered(self, alarm_id: bytes, answers: tuple[Answer, ...]) -> None:
        for answer in answers:
            if answer not in self._open.get(alarm_id, ()):
                self._send_soon(answer)
        if answers:
            self._open[alarm_id] = answers
        else:
            self._open.pop(alarm_id, None)

    def _send_soon(self, answer: Answer) -> None:
        for edge_id in self._edges_of(answer):
            self._due[edge_id, answer.alarm_id, answer.kind] = answer

    def _edges_of(self, answer: Answer) -> set[bytes]:
        """The edges that hear the stay, and the one that told of the alarm, which may not hear it any more."""
        bindings = self._directory.of_stay(answer.stay_id)
        found = self._found.get(answer.alarm_id)
        told = set() if found is None else {found.frame.edge_id} & {one.edge_id for one in bindings}
        return told.union(edges_of(bindings)) - {NO_DEVICE}


def _answer_to(found: EdgeAlarmRecord, order: Acknowledge | Silence, given_ms: int) -> Answer | None:
    """An order as the answer to what an edge told of; None if it is about something else."""
    alarm = found.alarm
    # What the edge said after the order, the person had not seen.
    if found.stay_id != order.stay_id or found.arrived_ms > given_ms:
        return None
    about = alarm.priority, bytes.fromhex(found.stay_id), alarm.alarm_id, _whole(alarm.grade), _condition_of(alarm)
    if isinstance(order, Acknowledge):
        return _acknowledged(order.at_ms, *about) if order.alarm_id == alarm.alarm_id else None
    same = (order.rule_id, order.key) == (alarm.rule_id, alarm.key)
    return _silenced(order.until_ms, *about) if same else None


def _is_worse(found: EdgeAlarmRecord, answer: Answer) -> bool:
    """Whether an edge's alarm has become worse than what was answered, so that it asks again."""
    return found.alarm.priority > answer.priority or found.alarm.grade >= answer.grade + WORSE_BY


def _whole(grade: float) -> int:
    return min(max(int(grade), 0), MOST_GRADE)


def _answers_of(alarm: AlarmChanged) -> tuple[Answer, ...]:
    """What the data centre's record of an alarm says; an answer to something milder does not stand in it any more."""
    stay_id = bytes.fromhex(alarm.stay_id)
    about = int(alarm.priority), stay_id, alarm.alarm_id, _whole(alarm.grade), _condition_of(alarm)
    answers = []
    if alarm.acknowledged_ms is not None:
        answers.append(_acknowledged(alarm.acknowledged_ms, *about))
    if alarm.silenced_until_ms is not None:
        answers.append(_silenced(alarm.silenced_until_ms, *about))
    return tuple(answers)


def _condition_of(alarm: AlarmChanged | EdgeAlarmV1) -> int:
    return condition_of(alarm.rule_id, alarm.key)


def _acknowledged(at_ms: int, priority: int, stay_id: bytes, alarm_id: bytes, grade: int, condition: int) -> Answer:
    return Answer(AnswerKind.ACKNOWLEDGED, priority, at_ms, 0, stay_id, alarm_id, grade, condition)


def _silenced(until_ms: int, priority: int, stay_id: bytes, alarm_id: bytes, grade: int, condition: int) -> Answer:
    # Without the moment of the announcement: the same answer whenever the alarm is announced again.
    return Answer(AnswerKind.SILENCED, priority, 0, until_ms, stay_id, alarm_id, grade, condition)

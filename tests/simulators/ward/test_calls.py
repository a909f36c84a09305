"""What a ward says of calls: a line for every call, answer and silence, each once."""

from typing import Any

from simulators.ward.calls import Calls
from simulators.ward.screen import CallStatus
from stream.desk import decisions
from stream.desk.decisions import Delivery, DeliveryStatus
from stream.desk.desk import Place, Standing
from tests.stream.desk.alarms import MINUTE, NOW, RED, SECOND, an_id, kept, told


def sent(person: str, after_ms: int, **changes: Any) -> Delivery:
    facts: dict[str, Any] = {
        "key": f"{person}{after_ms}", "person": person, "channel": "push", "who": "nurse", "alarm_id": an_id(),
        "priority": RED, "due_ms": NOW + after_ms, "fate": DeliveryStatus.SENT, "done_ms": NOW + after_ms,
    }  # fmt: skip
    return Delivery(**(facts | changes))


def standing(*deliveries: Delivery, answered: bool = False, silenced: bool = False) -> Standing:
    alarm = kept(told())
    active_silence = None
    if answered:
        alarm = decisions.acknowledge(alarm, by="anna", revision=0, now_ms=NOW + MINUTE)
    if silenced:
        active_silence = decisions.silence(alarm, by="ben", until_ms=NOW + 5 * MINUTE, revision=0, now_ms=NOW + MINUTE)
    calls = decisions.calls(alarm, active_silence, NOW + MINUTE)
    return Standing(alarm, Place("3", "P0003"), active_silence, list(deliveries), calls)


def test_every_call_and_the_answer_are_told_once() -> None:
    calls = Calls()
    anna, ben = sent("anna", SECOND), sent("ben", 20 * SECOND)

    lines = [
        calls.update([standing(anna, sent("carla", 0, fate=DeliveryStatus.FAILED))]),
        calls.update([standing(anna, ben)]),
        calls.update([standing(anna, ben)]),
        calls.update([standing(anna, ben, answered=True)]),
        calls.update([]),
    ]

    assert lines == [
        ["22:13:21  bed 3, alarm 00000001: called anna"],
        ["22:13:40  bed 3, alarm 00000001: called ben"],
        [],
        ["22:14:20  bed 3, alarm 00000001: answered by anna, calling stopped"],
        [],
    ]
    assert (calls.messages, calls.answered) == ({"anna": 1, "ben": 1}, {"anna": 1})
    assert calls.by_alarm[an_id()].answered_by == "anna"  # also when the desk does not list it any more


def test_an_alarm_that_has_many_messages_behind_it_keeps_who_was_called_first() -> None:
    calls = Calls()
    for second in range(60):
        calls.update([standing(*(sent("anna", one * SECOND) for one in range(max(0, second - 4), second + 1)))])

    assert len(calls.by_alarm[an_id()].called) == calls.messages["anna"] == 60


def test_a_silence_is_told_with_its_end() -> None:
    calls = Calls()

    (called, silenced) = calls.update([standing(sent("anna", 0), silenced=True)])

    assert called.endswith("called anna")
    assert silenced == "22:14:20  bed 3, alarm 00000001: silenced until 22:18:20"
    assert calls.by_alarm[an_id()] == CallStatus(
        alarm="00000001", called=(("anna", NOW),), silenced_until_ms=NOW + 5 * MINUTE, is_calling=False
    )

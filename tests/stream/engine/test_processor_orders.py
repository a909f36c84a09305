"""A worker judges by the newest orders that it was told, and never by older or unreadable ones."""

import pytest

from stream.engine.processor import Processor
from stream.records import (
    AlarmRecord,
    PeriodRecord,
    ReadingRecord,
    decode_alarm_record,
    decode_judgement_record,
    decode_state_row,
    encode_record,
)
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.ordered import signed
from tests.stream.receiving_site import NOW, SECOND
from vitals.messages import BindingPeriod, News2Scored

TIGHT = '[rule.danger_low_temperature]\nenabled = true\n[[condition]]\nname = "fast"\nall = ["heart_rate >= 60"]\n'
"""Every reading of a patient who is well is an alarm."""


class Worker:
    """One worker; what it has committed it has again after a restart."""

    def __init__(self) -> None:
        self.processor, self.offset = Processor(), 0
        self._rows: dict[bytes, bytes] = {}
        self.alarms: list[AlarmRecord] = []
        self.scores: list[News2Scored] = []

    def told(self, orders: bytes, *, stay: str = BED_1) -> None:
        period = BindingPeriod(stay_id=stay, from_ms=NOW, to_ms=None, heard_ms=NOW + self.offset * SECOND)
        self._apply(encode_record(PeriodRecord(message=period, orders=orders)))

    def reads(self, *, stay: str = BED_1) -> None:
        self._apply(encode_record(ReadingRecord(messages=(reading(self.offset * SECOND, bed=stay),))))

    def restart(self) -> None:
        self.processor = Processor(self._rows.items(), end=self.offset)

    def _apply(self, value: bytes) -> None:
        self.processor.apply(self.offset, value)
        self.offset += 1
        batch = self.processor.drain()
        self._rows |= dict(batch.states)
        found = [decode_alarm_record(value) for _, value in batch.alarms]
        self.alarms += [one for one in found if isinstance(one, AlarmRecord)]
        events = [event for _, value in batch.judgements for event in decode_judgement_record(value).events]
        self.scores += [event for event in events if isinstance(event, News2Scored)]

    @property
    def version(self) -> int:
        """The version that the newest score names."""
        return self.scores[-1].orders_version

    def stored(self, stay: str = BED_1) -> bytes:
        return decode_state_row(self._rows[stay.encode()]).orders


def test_events_name_the_orders_that_they_were_judged_by() -> None:
    worker = Worker()
    worker.reads()
    before = worker.version
    worker.told(signed(7, TIGHT))
    worker.reads()

    (alarm,) = worker.alarms
    assert (before, worker.version) == (0, 7)
    assert (alarm.alarm.rule_id, alarm.alarm.orders_version) == ("ordered_fast", 7)


def test_orders_of_one_patient_are_not_those_of_another() -> None:
    worker = Worker()
    worker.told(signed(7, TIGHT))
    worker.reads(stay=BED_2)

    assert worker.version == 0
    assert worker.alarms == []


@pytest.mark.parametrize("late", [signed(6), b"", b"\xc1 no orders", signed(7)])
def test_what_is_older_or_cannot_be_read_changes_nothing(late: bytes) -> None:
    worker = Worker()
    worker.told(signed(7, TIGHT))
    worker.told(late)
    worker.reads()

    assert worker.version == 7
    assert [one.alarm.rule_id for one in worker.alarms] == ["ordered_fast"]
    assert worker.stored() == signed(7, TIGHT)
    assert worker.processor.orders.unreadable == (late == b"\xc1 no orders")


def test_unreadable_orders_are_counted_once_however_often_they_are_told() -> None:
    worker = Worker()
    for _ in range(5):
        worker.told(b"\xc1 no orders")

    assert worker.processor.orders.unreadable == 1
    assert worker.processor.drain_defects() == [(BED_1, "BadOrders")]
    assert worker.processor.drain_defects() == []


def test_orders_survive_a_restart_between_being_told_and_the_next_reading() -> None:
    worker = Worker()
    worker.reads()
    worker.told(signed(7, TIGHT))
    worker.restart()
    worker.reads()

    assert worker.version == 7
    assert [one.alarm.rule_id for one in worker.alarms] == ["ordered_fast"]


def test_a_restart_after_any_record_gives_the_same_events() -> None:
    def day(*, restarts: bool) -> tuple[list[AlarmRecord], list[News2Scored]]:
        worker = Worker()
        steps = ["r", signed(7, TIGHT), "r", "r", signed(6), "r", signed(9), "r", "r", signed(11, TIGHT), "r"]
        for step in steps:
            worker.reads() if isinstance(step, str) else worker.told(step)
            if restarts:
                worker.restart()
        return worker.alarms, worker.scores

    assert day(restarts=True) == day(restarts=False)

"""The end of a binding at the desk: its alarms end with it, also those that only an edge has told of."""

from stream.desk import decisions
from stream.desk.book import DeskBook
from stream.records import BindingEndedRecord
from vitals.messages import AlarmChanged


def end_binding(book: DeskBook, record: BindingEndedRecord, now_ms: int) -> list[AlarmChanged]:
    """End every alarm of a binding, and its calls; returns the alarms. Within a transaction.

    What was under way when the binding ended and is read later calls nobody: see `DeskBook.has_ended`.
    """
    book.end_binding(record.binding_id, now_ms)
    changed = []
    for kept in book.listed():
        if kept.alarm.binding_id == record.binding_id and not kept.is_outage:
            ended = decisions.end_with_binding(kept, record, now_ms=now_ms)
            book.put_alarm(ended)
            book.stop(ended.alarm.alarm_id)
            changed.append(ended.alarm)
    return changed

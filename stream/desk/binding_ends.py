"""The end of a binding at the desk: its alarms end with it, also those that only an edge has told of."""

from stream.desk import decisions
from stream.desk.book import DeskBook
from stream.records import BindingEndedRecord
from vitals.alarms import ClockText
from vitals.messages import AlarmChanged


def end_binding(book: DeskBook, record: BindingEndedRecord, clock: ClockText, now_ms: int) -> list[AlarmChanged]:
    """End every alarm of a binding, and its calls; returns the alarms. Within a transaction.

    What was under way when the binding ended and is read later calls nobody: see `stream.desk.tables.EndedBindings`.

    Args:
        clock: writes the times in texts.
        now_ms: by the desk's time.
    """
    book.ended.put(record.binding_id, now_ms)
    changed = []
    for kept in book.alarms.listed():
        if kept.alarm.binding_id == record.binding_id and not kept.is_own:
            ended = decisions.end_with_binding(kept, record, clock, now_ms=now_ms)
            book.alarms.put(ended)
            book.deliveries.stop(ended.alarm.alarm_id)
            changed.append(ended.alarm)
    return changed

"""The end of a stay at the desk: its alarms end with it, also those that only an edge has told of.

The end of one of several bindings of a stay is none: no record of it comes, and nothing ends.
"""

from stream.desk import decisions
from stream.desk.book import DeskBook
from stream.records import StayEndedRecord
from vitals.alarms import ClockText
from vitals.messages import AlarmChanged


def end_stay(book: DeskBook, record: StayEndedRecord, clock: ClockText, now_ms: int) -> list[AlarmChanged]:
    """End every alarm of a stay, and its calls; returns the alarms. Within a transaction.

    What was under way when the stay ended and is read later calls nobody: see `stream.desk.tables.EndedStays`.

    Args:
        clock: writes the times in texts.
        now_ms: by the desk's time.
    """
    book.ended.put(record.stay_id, now_ms)
    changed = []
    for kept in book.alarms.listed():
        if kept.alarm.stay_id == record.stay_id and not kept.is_own:
            ended = decisions.end_with_stay(kept, record, clock, now_ms=now_ms)
            book.alarms.put(ended)
            book.deliveries.stop(ended.alarm.alarm_id)
            changed.append(ended.alarm)
    return changed

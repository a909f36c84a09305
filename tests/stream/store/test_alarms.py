"""A store that stands still is an alarm that reaches people, with its reason, and that ends when it goes on."""

from stream.desk.decisions import hear
from stream.records import AlarmRecord
from stream.refusals import Cause
from stream.store.alarms import AFTER_MS, StoreAlarms
from stream.store.counts import WriterCounts
from vitals.messages import AlarmKind, AlarmState, Priority

NOW = 1_767_600_000_000


def test_a_minute_without_progress_is_one_alarm_until_it_ends() -> None:
    counts = WriterCounts()
    alarms = StoreAlarms("north", {"events": counts, "alarms": WriterCounts()})

    assert alarms.changes(now_ms=NOW, mono_ms=0) == []
    counts.waiting_since_ms, counts.why_waiting = 0, "InfluxDB has no bucket vitals"
    counts.waiting_for = Cause.CONFIGURATION
    assert alarms.changes(now_ms=NOW + AFTER_MS - 1, mono_ms=AFTER_MS - 1) == []
    (begun,) = alarms.changes(now_ms=NOW + AFTER_MS, mono_ms=AFTER_MS)
    assert alarms.changes(now_ms=NOW + 2 * AFTER_MS, mono_ms=2 * AFTER_MS) == []
    counts.waiting_since_ms = None
    (ended,) = alarms.changes(now_ms=NOW + 3 * AFTER_MS, mono_ms=3 * AFTER_MS)

    assert (begun.kind, begun.priority, begun.state) == (AlarmKind.TECHNICAL, Priority.MEDIUM, AlarmState.ACTIVE)
    assert "events are not written to the database for 60 s" in begun.text
    assert "no bucket vitals (this does not end by itself)" in begun.text
    assert (ended.alarm_id, ended.state, ended.revision) == (begun.alarm_id, AlarmState.CLEARED, 1)


def test_the_desk_calls_people_about_it_and_asks_no_worker_to_confirm() -> None:
    counts = WriterCounts(waiting_since_ms=0, why_waiting="InfluxDB does not answer")
    (begun,) = StoreAlarms("north", {"events": counts}).changes(now_ms=NOW, mono_ms=AFTER_MS)

    heard = hear(AlarmRecord(alarm=begun), now_ms=NOW, before=None)

    assert heard is not None
    assert heard.kept.is_outage
    assert heard.kept.is_active
    assert heard.kept.escalation.begins_ms == NOW


def test_another_episode_is_another_alarm_and_a_stop_ends_the_open_one() -> None:
    counts = WriterCounts(waiting_since_ms=0, why_waiting="away")
    alarms = StoreAlarms("north", {"events": counts})
    (first,) = alarms.changes(now_ms=NOW, mono_ms=AFTER_MS)

    assert [one.state for one in alarms.end_all(now_ms=NOW + 1)] == [AlarmState.CLEARED]
    assert alarms.end_all(now_ms=NOW + 2) == []
    counts.waiting_since_ms = 5 * AFTER_MS
    (second,) = alarms.changes(now_ms=NOW + 5 * AFTER_MS, mono_ms=6 * AFTER_MS)
    assert second.alarm_id != first.alarm_id

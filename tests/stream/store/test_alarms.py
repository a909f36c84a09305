"""A store that stands still is an alarm that reaches people, with its reason, and that ends when it goes on."""

from typing import Any

from stream.desk.decisions import hear
from stream.desk.texts import Telling, of_alarm, of_many, where
from stream.records import AlarmRecord
from stream.refusals import Cause
from stream.store.alarms import AFTER_MS, StoreAlarms
from stream.store.counts import WriterCounts
from vitals.messages import AlarmKind, AlarmState, Priority

NOW = 1_767_600_000_000


def well(**more: Any) -> WriterCounts:
    return WriterCounts(**{"turned_ms": 10 * AFTER_MS, "heard_ms": 10 * AFTER_MS} | more)


def test_a_minute_without_progress_is_one_alarm_until_it_ends() -> None:
    counts = well()
    alarms = StoreAlarms("north", {"events": counts, "alarms": well()})

    assert alarms.changes(now_ms=NOW, mono_ms=0) == []
    counts.waiting_since_ms, counts.why_waiting = 0, "InfluxDB has no bucket vitals"
    counts.waiting_for = Cause.CONFIGURATION
    assert alarms.changes(now_ms=NOW + AFTER_MS - 1, mono_ms=AFTER_MS - 1) == []
    (begun,) = alarms.changes(now_ms=NOW + AFTER_MS, mono_ms=AFTER_MS)
    assert alarms.changes(now_ms=NOW + 2 * AFTER_MS, mono_ms=2 * AFTER_MS) == []
    counts.waiting_since_ms = None
    (ended,) = alarms.changes(now_ms=NOW + 3 * AFTER_MS, mono_ms=3 * AFTER_MS)

    assert (begun.kind, begun.priority, begun.state) == (AlarmKind.TECHNICAL, Priority.MEDIUM, AlarmState.ACTIVE)
    assert "events: InfluxDB has accepted nothing for 60 s" in begun.text
    assert "no bucket vitals (this does not end by itself)" in begun.text
    assert (ended.alarm_id, ended.state, ended.revision) == (begun.alarm_id, AlarmState.CLEARED, 1)


def test_the_desk_calls_people_about_it_and_asks_no_worker_to_confirm() -> None:
    counts = well(waiting_since_ms=0, why_waiting="InfluxDB does not answer")
    (begun,) = StoreAlarms("north", {"events": counts}).changes(now_ms=NOW, mono_ms=AFTER_MS)

    heard = hear(AlarmRecord(alarm=begun), now_ms=NOW, before=None)

    assert heard is not None
    assert heard.kept.is_own
    assert heard.kept.is_active
    assert heard.kept.escalation.begins_ms == NOW


def test_the_message_says_that_the_record_stands_still_and_counts_no_patients() -> None:
    counts = well(waiting_since_ms=0, why_waiting="InfluxDB does not answer")
    (begun,) = StoreAlarms("north", {"events": counts}).changes(now_ms=NOW, mono_ms=AFTER_MS)
    heard = hear(AlarmRecord(alarm=begun), now_ms=NOW, before=None)
    assert heard is not None

    place = where(heard.kept, "", "")
    message = of_alarm(heard.kept, place, Telling(site="North"), now_ms=NOW)
    digest = of_many([(heard.kept, place), (heard.kept, place)], Telling())

    assert message.title == "** medium technical alarm, the site, North"
    assert "The record of the site stands still" in message.body
    assert "InfluxDB does not answer" in message.body
    assert "patients" not in message.body.replace("alarms about patients", "")
    assert "the site, since" in digest.body


def test_another_episode_is_another_alarm_and_a_stop_ends_the_open_one() -> None:
    counts = well(waiting_since_ms=0, why_waiting="away")
    alarms = StoreAlarms("north", {"events": counts})
    (first,) = alarms.changes(now_ms=NOW, mono_ms=AFTER_MS)

    assert [one.state for one in alarms.end_all(now_ms=NOW + 1)] == [AlarmState.CLEARED]
    assert alarms.end_all(now_ms=NOW + 2) == []
    counts.waiting_since_ms = 5 * AFTER_MS
    (second,) = alarms.changes(now_ms=NOW + 5 * AFTER_MS, mono_ms=6 * AFTER_MS)
    assert second.alarm_id != first.alarm_id


def test_a_topic_group_that_does_not_turn_is_an_alarm_with_the_last_error_of_kafka() -> None:
    counts = well(turned_ms=1, why_kafka="CorruptRecordException()")
    alarms = StoreAlarms("north", {"events": counts})

    assert alarms.changes(now_ms=NOW, mono_ms=AFTER_MS) == []
    (begun,) = alarms.changes(now_ms=NOW + AFTER_MS, mono_ms=2 * AFTER_MS)

    assert "no progress for 120 s: CorruptRecordException()" in begun.text
    counts.turned_ms = 2 * AFTER_MS
    assert [one.state for one in alarms.changes(now_ms=NOW + AFTER_MS, mono_ms=2 * AFTER_MS)] == [AlarmState.CLEARED]

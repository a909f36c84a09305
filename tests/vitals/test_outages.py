"""Patients whose data stops together are one outage; single, severe and physiological alarms are notified as before."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from vitals.outages import Outage, SiteOutages

SECOND, MINUTE = 1_000, 60_000
NOON = 1_699_963_200_000  # 12:00 UTC


def silent(patient: str, *, since_s: float = 0, after_ms: int = 10 * MINUTE, **changes: Any) -> AlarmChanged:
    """No data for a patient since some seconds past noon; the alarm comes `after_ms`."""
    onset_ms = NOON + round(since_s * SECOND)
    return msgspec.structs.replace(
        AlarmChanged(
            stay_id=patient,
            alarm_id=f"{patient:_<16}".encode(),
            rule_id="no_data",
            kind=AlarmKind.TECHNICAL,
            priority=Priority.MEDIUM,
            state=AlarmState.ACTIVE,
            at_ms=onset_ms + after_ms,
            onset_ms=onset_ms,
            revision=0,
            text="no data for any sign",
            basis="rule",
        ),
        **changes,
    )


def back(patient: str, *, at_ms: int = NOON + 20 * MINUTE, **changes: Any) -> AlarmChanged:
    return msgspec.structs.replace(silent(patient), state=AlarmState.CLEARED, at_ms=at_ms, revision=1, **changes)


def feed(site: SiteOutages, *alarms: AlarmChanged, patients: int = 20) -> list[Outage]:
    return [outage for alarm in alarms for outage in site.observe(alarm, patients=patients)]


def north() -> SiteOutages:
    return SiteOutages("Ward North")


def three() -> list[AlarmChanged]:
    return [silent("ada"), silent("ben", since_s=20), silent("cem", since_s=60)]


# Beginning


def test_three_who_fall_silent_within_a_minute_are_an_outage() -> None:
    #   ada      ben              cem
    #   |--------|----------------|
    #   0        20               60 s
    (outage,) = feed(north(), *three())

    assert (outage.without_data, outage.returned, outage.revision) == (("ada", "ben", "cem"), (), 0)
    assert (outage.began_ms, outage.at_ms, outage.ended_ms) == (NOON, NOON + 11 * MINUTE, None)
    assert outage.grouped == tuple(alarm.alarm_id for alarm in three())
    assert outage.text == "Ward North: no data from 3 of 20 patients since 12:00 UTC"


@pytest.mark.parametrize(
    ("silent_patients", "patients", "is_outage"),
    [
        (1, 1, False),
        (1, 3, False),  # one is no common cause, though it is a third
        (2, 2, True),
        (2, 6, True),
        (2, 7, False),
        (2, 20, False),  # 2 of 6 are 33 %, 2 of 7 are 29 %
        (3, 10, True),
        (3, 11, True),
        (3, 1_000, True),  # three are enough anywhere
    ],
)
def test_how_many_make_an_outage(silent_patients: int, patients: int, is_outage: bool) -> None:
    alarms = [silent(f"p{number}") for number in range(silent_patients)]

    assert bool(feed(north(), *alarms, patients=patients)) is is_outage


@pytest.mark.parametrize(("last_s", "is_outage"), [(59.999, True), (60, True), (60.001, False)])
def test_how_close_together(last_s: float, is_outage: bool) -> None:
    alarms = [silent("ada"), silent("ben"), silent("cem", since_s=last_s)]

    assert bool(feed(north(), *alarms)) is is_outage


def test_alarms_that_come_half_an_hour_apart_have_one_cause() -> None:
    # One cable. The ill are missed after a minute, the well after half an hour.
    alarms = [
        silent("ill", after_ms=MINUTE),
        silent("so-so", after_ms=10 * MINUTE),
        silent("well", after_ms=30 * MINUTE),
    ]

    (outage,) = feed(north(), *alarms)

    assert (outage.without_data, outage.began_ms) == (("ill", "so-so", "well"), NOON)


def test_three_signs_of_one_patient_are_one_patient() -> None:
    signs = [silent("ada", key=sign, alarm_id=sign.encode()) for sign in ("spo2", "heart_rate", "respiratory_rate")]

    assert feed(north(), *signs) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": AlarmKind.PHYSIOLOGICAL, "rule_id": "news2"},
        {"kind": AlarmKind.PHYSIOLOGICAL},
        {"rule_id": "sensor_off"},
        {"rule_id": "battery"},
        {"retrospective": True},
        {"state": AlarmState.PENDING},
        {"state": AlarmState.CLEARED},
    ],
)
def test_what_is_never_part_of_an_outage(changes: dict[str, Any]) -> None:
    site = north()

    assert feed(site, *(silent(patient, **changes) for patient in ("ada", "ben", "cem", "dan"))) == []
    assert not site.replaces(silent("ada").alarm_id)


# The ill


def test_a_high_alarm_counts_and_speaks_for_itself() -> None:
    site = north()

    (outage,) = feed(site, silent("ada"), silent("ben"), silent("cem", priority=Priority.HIGH))

    assert outage.without_data == ("ada", "ben", "cem")
    assert outage.grouped == (silent("ada").alarm_id, silent("ben").alarm_id)
    assert not site.replaces(silent("cem").alarm_id)


def test_an_alarm_that_becomes_high_leaves_the_group_and_stays_on_the_list() -> None:
    site = north()
    feed(site, *three())

    (outage,) = feed(site, silent("ben", since_s=20, priority=Priority.HIGH, revision=1))

    assert outage.without_data == ("ada", "ben", "cem")
    assert outage.grouped == (silent("ada").alarm_id, silent("cem").alarm_id)
    assert [site.replaces(silent(patient).alarm_id) for patient in ("ada", "ben", "cem")] == [True, False, True]


# Growing, shrinking, ending


def test_it_grows() -> None:
    site = north()
    (first,) = feed(site, *three())

    (grown,) = feed(site, silent("dan", since_s=30, after_ms=30 * MINUTE))

    assert grown.outage_id == first.outage_id
    assert (grown.without_data, grown.revision) == (("ada", "ben", "cem", "dan"), 1)


def test_a_patient_whose_data_stops_later_is_not_part_of_the_outage() -> None:
    site = north()
    feed(site, *three())

    assert feed(site, silent("dan", since_s=61)) == []
    assert not site.replaces(silent("dan").alarm_id)


def test_two_causes_are_two_outages() -> None:
    site = north()
    later = [silent(patient, since_s=300) for patient in ("dan", "eva", "fay")]

    first, second = feed(site, *three(), *later)

    assert first.outage_id != second.outage_id
    assert (second.without_data, second.began_ms) == (("dan", "eva", "fay"), NOON + 5 * MINUTE)


def test_it_shrinks_and_ends_when_the_rest_have_nothing_in_common() -> None:
    site = north()
    feed(site, *three(), silent("dan"))

    smaller, over = feed(site, back("ada"), back("ben", at_ms=NOON + 21 * MINUTE))

    assert (smaller.without_data, smaller.returned, smaller.ended_ms) == (("ben", "cem", "dan"), ("ada",), None)
    assert (over.without_data, over.returned, over.grouped) == (("cem", "dan"), ("ada", "ben"), ())
    assert over.ended_ms == NOON + 21 * MINUTE
    assert over.text == "Ward North: outage since 12:00 UTC is over; 2 of 20 patients still without data"
    # The outage does not replace the alarms of those two any more.
    assert not site.replaces(silent("cem").alarm_id)


def test_at_a_small_site_it_lasts_until_one_is_left() -> None:
    site = north()
    feed(site, *three(), patients=4)

    ends = [outage.ended_ms for outage in feed(site, back("ada"), back("ben"), back("cem"), patients=4)]

    assert ends == [None, NOON + 20 * MINUTE]


def test_who_falls_silent_again_is_on_the_list_once() -> None:
    site = north()
    feed(site, *three(), silent("dan"), back("dan"))

    (outage,) = feed(site, silent("dan", since_s=40, alarm_id=b"dan again"))

    assert (outage.without_data, outage.returned) == (("ada", "ben", "cem", "dan"), ())


def test_news_that_is_none_is_not_told() -> None:
    site = north()
    feed(site, *three())

    assert feed(site, *three(), silent("ada", revision=1, text="no data, 12 min"), back("unknown")) == []


def test_its_id_is_made_of_what_began_it() -> None:
    ids = {feed(SiteOutages(site), *three())[0].outage_id for site in ("A", "A", "B")}

    assert len(ids) == 2
    assert {len(one) for one in ids} == {16}


# For every story


@st.composite
def stories(draw: st.DrawFn) -> list[AlarmChanged]:
    alarms = []
    for _ in range(draw(st.integers(1, 25))):
        patient = draw(st.sampled_from("abcdefgh"))
        if draw(st.integers(0, 3)) == 0:
            alarms.append(back(patient))
        else:
            priority = draw(st.sampled_from(Priority))
            alarms.append(silent(patient, since_s=draw(st.integers(0, 12)) * 10, priority=priority))
    return alarms


@settings(deadline=None, derandomize=True, max_examples=200)
@given(story=stories(), patients=st.integers(8, 30))
def test_a_group_is_common_close_and_never_high(story: list[AlarmChanged], patients: int) -> None:
    site, standing = north(), {}
    for alarm in story:
        standing[alarm.alarm_id] = alarm
        for outage in site.observe(alarm, patients=patients):
            held = [standing[alarm_id] for alarm_id in outage.grouped]
            assert all(one.state is AlarmState.ACTIVE and one.priority < Priority.HIGH for one in held)
            assert set(outage.without_data).isdisjoint(outage.returned)
            if outage.ended_ms is None:
                assert len(outage.without_data) >= 3 or len(outage.without_data) > 0.3 * patients
            else:
                assert not outage.grouped
        for one in standing.values():
            assert not (site.replaces(one.alarm_id) and one.priority is Priority.HIGH)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(story=stories(), cut=st.integers(0, 25), patients=st.integers(2, 12))
def test_a_restart_anywhere_changes_nothing(story: list[AlarmChanged], cut: int, patients: int) -> None:
    site = north()
    expected = feed(site, *story, patients=patients)

    first = north()
    events = feed(first, *story[:cut], patients=patients)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first.to_state()))
    events += feed(SiteOutages.from_state("Ward North", stored), *story[cut:], patients=patients)

    assert events == expected


# Several alarms at once


def test_a_batch_announces_each_outage_once_as_it_is_in_the_end() -> None:
    site = north()

    (grown,) = site.observe_all([*three(), silent("dan", since_s=30)], patients=20)
    (smaller,) = site.observe_all([back("ada"), silent("eva", since_s=40)], patients=20)

    assert (grown.without_data, grown.revision) == (("ada", "ben", "cem", "dan"), 0)
    assert (smaller.without_data, smaller.returned, smaller.revision) == (("ben", "cem", "dan", "eva"), ("ada",), 1)


def test_an_outage_that_begins_and_ends_in_one_batch_is_announced_as_ended() -> None:
    (outage,) = north().observe_all([*three(), back("ada")], patients=20)

    assert (outage.ended_ms, outage.grouped, outage.without_data) == (NOON + 20 * MINUTE, (), ("ben", "cem"))


def test_without_a_number_of_patients_three_make_an_outage() -> None:
    site = north()

    assert site.observe_all(three()[:2], patients=None) == []
    (outage,) = site.observe(three()[2], patients=None)

    assert outage.text == "Ward North: no data from 3 patients since 12:00 UTC"


def test_thousands_of_patients_are_one_outage() -> None:
    site, patients = north(), [f"p{number}" for number in range(5_000)]

    (began,) = site.observe_all([silent(patient) for patient in patients], patients=5_000)
    (ended,) = site.observe_all([back(patient) for patient in patients[2:]], patients=5_000)

    assert (len(began.without_data), len(began.grouped)) == (5_000, 5_000)
    assert (ended.without_data, len(ended.returned), ended.ended_ms is None) == (("p0", "p1"), 4_998, False)


def test_a_state_that_was_stored_earlier_is_restored() -> None:
    ids = [silent(patient).alarm_id for patient in ("ada", "ben", "cem")]
    alarms = [[patient, one, NOON, True] for patient, one in zip(("ada", "ben", "cem"), ids, strict=True)]
    stored = [alarms, [[b"o" * 16, NOON, NOON + 20 * SECOND, ids, ["dan", "ada", "ben", "cem"], 4]]]

    site = SiteOutages.from_state("Ward North", msgspec.msgpack.decode(msgspec.msgpack.encode(stored)))

    assert site.replaced_by(ids[0]) == b"o" * 16
    assert msgspec.msgpack.encode(site.to_state()) == msgspec.msgpack.encode(stored)
    (outage,) = feed(site, silent("eva", since_s=30))
    assert (outage.without_data, outage.returned, outage.revision) == (("ada", "ben", "cem", "eva"), ("dan",), 5)

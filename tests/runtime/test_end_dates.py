"""When an end date is urgent: what a person renews at 30, 14 and 3 days, what renews itself when it is overdue."""

from typing import Any

import pytest

from runtime.end_dates import DAY_MS, EndDate, EndDateWatch, Urgency, notes, sentence, trouble, urgency

END = 1_000 * DAY_MS
NONE, LOW, MEDIUM, HIGH, ENDED = Urgency


def an_end(**changes: Any) -> EndDate:
    facts = {"what": "certificate of the desk", "ends_ms": END, "renewed_by": "a person", "fix": "replace it"}
    return EndDate(**(facts | changes))


@pytest.mark.parametrize(
    ("left_days", "found"),
    [
        (31, NONE),
        (30, LOW),
        (14.01, LOW),
        (14, MEDIUM),
        (3.01, MEDIUM),
        (3, HIGH),
        (0.01, HIGH),
        (0, ENDED),
        (-9, ENDED),
    ],
)
def test_what_a_person_renews_is_announced_at_30_14_and_3_days(left_days: float, found: Urgency) -> None:
    assert urgency(an_end(), END - int(left_days * DAY_MS)) is found


#  days left   90 ........ 30 .. 29 ............ 14 ........ 3 .... 0
#              new         renewal due: quiet for a day, then low, medium, high
@pytest.mark.parametrize(
    ("left_days", "found"),
    [(90, NONE), (30, NONE), (29.01, NONE), (29, LOW), (14.01, LOW), (14, MEDIUM), (3, HIGH), (0, ENDED)],
)
def test_what_renews_itself_is_announced_when_that_is_overdue(left_days: float, found: Urgency) -> None:
    one = an_end(due_ms=END - 30 * DAY_MS)

    assert urgency(one, END - int(left_days * DAY_MS)) is found


@pytest.mark.parametrize(("left_days", "found"), [(15, NONE), (13.9, LOW), (7.6, LOW), (7.5, MEDIUM), (3, HIGH)])
def test_a_renewal_in_the_last_fortnight_calls_people_after_half_of_it(left_days: float, found: Urgency) -> None:
    one = an_end(due_ms=END - 15 * DAY_MS)

    assert urgency(one, END - int(left_days * DAY_MS)) is found


@pytest.mark.parametrize(
    ("left_days", "found"), [(61, NONE), (60, LOW), (44, MEDIUM), (30, MEDIUM), (15.01, MEDIUM), (15, HIGH), (0, ENDED)]
)
def test_what_cuts_others_short_has_to_be_replaced_earlier(left_days: float, found: Urgency) -> None:
    one = an_end(lead_ms=30 * DAY_MS)

    assert urgency(one, END - int(left_days * DAY_MS)) is found


def test_what_was_replaced_is_silent_and_one_device_is_not_the_whole_site() -> None:
    assert urgency(an_end(is_superseded=True), END) is NONE
    assert urgency(an_end(most=MEDIUM), END + DAY_MS) is MEDIUM


def test_a_sentence_names_the_thing_its_end_why_and_the_fix() -> None:
    one = an_end(ends_ms=20_000 * DAY_MS, due_ms=19_990 * DAY_MS, renewed_by="the registry", problem="disk full")

    assert sentence(one, 19_995 * DAY_MS) == (
        "certificate of the desk expires in 5 days, on 2024-10-04; the registry has not renewed it (disk full); "
        "fix: replace it"
    )
    assert sentence(one, 20_002 * DAY_MS).startswith("certificate of the desk expired 2 days ago; the registry")


def test_the_first_failure_is_named_although_there_is_time() -> None:
    failing = an_end(what="b", due_ms=END - 30 * DAY_MS, problem="away")
    urgent, quiet = an_end(what="a", ends_ms=END - 26 * DAY_MS), an_end(what="c", due_ms=END - 30 * DAY_MS)

    told = notes([failing, quiet, urgent], END - 30 * DAY_MS)

    assert [one.split()[0] for one in told] == ["a", "b"]
    assert trouble([failing, quiet, urgent], END - 30 * DAY_MS) == ""
    assert EndDateWatch(lambda: [an_end()], lambda: END, lambda: ["more"]).notes()[-1] == "more"

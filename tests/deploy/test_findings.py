"""What the doctor makes of what it has seen, by head."""

import pytest

from deploy.findings import (
    DAY_MS,
    Certificate,
    Look,
    Rights,
    Verdict,
    judge_bucket,
    judge_certificate,
    judge_disk,
    judge_lag,
    judge_list,
    judge_offset,
    ok,
    span,
    warning,
    worst_first,
    wrong,
)

NOW = 1_000 * DAY_MS
MB = 1 << 20


@pytest.mark.parametrize(
    ("begins", "ends", "is_ours", "verdict", "what"),
    [
        (-10, 80, True, Verdict.OK, "good for 80 days"),
        (-83, 7, True, Verdict.OK, "good for 7 days"),
        (-84, 6, True, Verdict.WARNING, "expires in 6 days"),
        (-90, 0, True, Verdict.WRONG, "expired less than a second ago"),
        (-100, -10, True, Verdict.WRONG, "expired 10 days ago"),
        (1, 91, True, Verdict.WRONG, "is good only in 1 day"),
        (-10, 80, False, Verdict.WRONG, "was issued by another authority"),
    ],
)
def test_a_certificate_is_good_for_a_while(begins: int, ends: int, is_ours: bool, verdict: Verdict, what: str) -> None:
    found = judge_certificate(
        Certificate("the broker", NOW + begins * DAY_MS, NOW + ends * DAY_MS, is_ours), now_ms=NOW, cure="renew it"
    )

    assert (found.about, found.verdict, found.what) == ("certificate of the broker", verdict, what)
    assert bool(found.cure) == (verdict is not Verdict.OK)


@pytest.mark.parametrize(("days", "verdict"), [(3, Verdict.OK), (1, Verdict.WARNING), (-1, Verdict.WRONG)])
def test_nobody_gets_in_when_the_revocation_list_has_ended(days: int, verdict: Verdict) -> None:
    assert judge_list(days * DAY_MS, warn_ms=2 * DAY_MS, cure="write it").verdict is verdict


@pytest.mark.parametrize(
    ("offset_s", "verdict"),
    [(0, Verdict.OK), (-5, Verdict.OK), (6, Verdict.WARNING), (-30, Verdict.WARNING), (31, Verdict.WRONG)],
)
def test_a_clock_may_be_off_by_seconds(offset_s: float, verdict: Verdict) -> None:
    assert judge_offset("InfluxDB", offset_s).verdict is verdict


def test_an_offset_says_which_way() -> None:
    assert judge_offset("InfluxDB", 86_400).what == "1 day ahead of that of InfluxDB"
    assert judge_offset("InfluxDB", -3_600).what == "1 hour behind that of InfluxDB"


@pytest.mark.parametrize(
    ("free", "growth", "verdict"),
    [
        (4_000, 1_500, Verdict.OK),
        (1_400, 1_500, Verdict.WRONG),  # it fits today, and not when the network is away for long
        (900, 0, Verdict.WARNING),
        (99, 0, Verdict.WRONG),
    ],
)
def test_a_disk_has_to_hold_what_is_promised(free: int, growth: int, verdict: Verdict) -> None:
    assert judge_disk("outbox", free=free * MB, growth=growth * MB, cure="make room").verdict is verdict


@pytest.mark.parametrize(
    ("first", "second", "verdict", "what"),
    [
        # (end, done) of two partitions; a transaction's end is a record that nobody reads
        ((100, 100), (100, 100), Verdict.OK, "nothing waits"),
        ((100, 96), (100, 96), Verdict.OK, "nothing waits"),
        ((100, 90), (200, 185), Verdict.OK, "15 records wait, 95 were read in 4 s"),
        ((100, 0), (200, 150), Verdict.OK, "50 records wait, 150 were read in 4 s"),
        ((100, 50), (200, 60), Verdict.WRONG, "its lag grows: 140 records, 90 more in 4 s"),
        ((100, 50), (100, 50), Verdict.WRONG, "50 records wait; in 4 s 0 more came and none was read"),
        ((100, 50), (180, 50), Verdict.WRONG, "130 records wait; in 4 s 80 more came and none was read"),
    ],
)
def test_readers_get_on_or_they_do_not(
    first: tuple[int, int], second: tuple[int, int], verdict: Verdict, what: str
) -> None:
    looks = [Look(end, done, partitions=2) for end, done in (first, second)]

    found = judge_lag("workers", *looks, seconds=4, start="vitalloom worker", more="start more of them")

    assert (found.verdict, found.what) == (verdict, what)


def test_a_group_without_members_is_nobody_even_if_nothing_waits() -> None:
    look = Look(10, 10, partitions=1, members=False)

    found = judge_lag("workers", look, look, seconds=4, start="vitalloom worker", more="start more of them")

    assert (found.verdict, found.cure) == (Verdict.WRONG, "start one: vitalloom worker")


@pytest.mark.parametrize(
    ("write", "read", "problem", "verdict", "what"),
    [
        (204, 200, "", Verdict.OK, "can be written and read"),
        (401, 401, "", Verdict.WRONG, "the token in t is not known there"),
        (404, 404, 'bucket "vitals" not found', Verdict.WRONG, "there is no such bucket, or the token may not see it"),
        (404, 404, 'organization name "x" not found', Verdict.WRONG, "there is no organisation ward"),
        (403, 200, "", Verdict.WRONG, "may not be written with the token in t"),
        (204, 403, "", Verdict.WRONG, "may not be read with the token in t"),
        (503, 200, "engine: closed", Verdict.WRONG, "answers 503: engine: closed"),
    ],
)
def test_a_token_may_write_and_read(write: int, read: int, problem: str, verdict: Verdict, what: str) -> None:
    found = judge_bucket(Rights("vitals", write, read, problem), url="http://db:8086", org="ward", token_file="t")

    assert (found.verdict, found.what) == (verdict, what)


def test_the_worst_is_said_first() -> None:
    found = worst_first([ok("a", ""), warning("b", "", ""), wrong("c", "", ""), ok("d", "")])

    assert [one.about for one in found] == ["c", "b", "a", "d"]


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (400, "less than a second"),
        (1_000, "1 second"),
        (90 * 60_000, "2 hours"),
        (2 * DAY_MS, "2 days"),
        (DAY_MS - 400, "1 day"),
    ],
)
def test_lengths_of_time_are_said_in_words(ms: int, words: str) -> None:
    assert span(ms) == words

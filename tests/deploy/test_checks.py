"""The checks of `vitalloom doctor`: severity and text for measured facts."""

from pathlib import Path

import pytest

from deploy.checks import (
    DAY_MS,
    BucketAccess,
    CertificateFacts,
    LagSample,
    Severity,
    failure,
    judge_bucket,
    judge_certificate,
    judge_disk,
    judge_end_date,
    judge_lag,
    judge_offset,
    judge_revocation_list,
    judge_time_zone,
    judge_urgent_ladder,
    ok,
    span,
    warning,
    with_end_dates,
    worst_first,
)
from deploy.site_checks import check_desk
from runtime.end_dates import EndDate

NOW = 1_000 * DAY_MS
MB = 1 << 20


@pytest.mark.parametrize(
    ("begins", "ends", "is_ours", "severity", "result"),
    [
        (-10, 80, True, Severity.OK, "valid for 80 days"),
        (-83, 7, True, Severity.OK, "valid for 7 days"),
        (-90, 0, True, Severity.ERROR, "expired less than a second ago"),
        (-100, -10, True, Severity.ERROR, "expired 10 days ago"),
        (1, 91, True, Severity.ERROR, "is not valid yet; it becomes valid in 1 day"),
        (-10, 80, False, Severity.ERROR, "was issued by another authority"),
    ],
)
def test_certificate_is_checked_for_issuer_and_validity(
    begins: int, ends: int, is_ours: bool, severity: Severity, result: str
) -> None:
    found = judge_certificate(
        CertificateFacts("the broker", NOW + begins * DAY_MS, NOW + ends * DAY_MS, is_ours), now_ms=NOW, fix="renew it"
    )

    assert (found.subject, found.severity, found.result) == ("certificate of the broker", severity, result)
    assert bool(found.fix) == (severity is not Severity.OK)


@pytest.mark.parametrize(
    ("left", "severity"),
    [(31, Severity.OK), (30, Severity.WARNING), (14, Severity.WARNING), (3, Severity.ERROR), (-1, Severity.ERROR)],
)
def test_what_a_person_has_to_renew_is_a_warning_and_then_an_error(left: int, severity: Severity) -> None:
    one = EndDate(what="certificate of the desk", ends_ms=NOW + left * DAY_MS, renewed_by="a person", fix="replace it")

    found = judge_end_date(one, now_ms=NOW)

    assert (found.subject, found.severity) == ("certificate of the desk", severity)
    assert found.fix == ("" if severity is Severity.OK else "replace it")


def test_of_one_subject_the_more_severe_result_counts() -> None:
    one = EndDate(what="certificate of the desk", ends_ms=NOW + DAY_MS, renewed_by="a person", fix="replace it")
    well, broken = ok("certificate of the desk", "valid"), failure("certificate of the desk", "of another", "look")

    assert [one_.severity for one_ in with_end_dates([well], [one], now_ms=NOW)] == [Severity.ERROR]
    assert with_end_dates([broken], [one], now_ms=NOW) == [broken]


@pytest.mark.parametrize(("days", "severity"), [(3, Severity.OK), (1, Severity.WARNING), (-1, Severity.ERROR)])
def test_expired_revocation_list_is_an_error(days: int, severity: Severity) -> None:
    assert judge_revocation_list(days * DAY_MS, warn_ms=2 * DAY_MS, fix="write it").severity is severity


@pytest.mark.parametrize(
    ("offset_s", "severity"),
    [(0, Severity.OK), (-5, Severity.OK), (6, Severity.WARNING), (-30, Severity.WARNING), (31, Severity.ERROR)],
)
def test_clock_offset_of_a_few_seconds_is_ok(offset_s: float, severity: Severity) -> None:
    assert judge_offset("InfluxDB", offset_s).severity is severity


def test_clock_offset_states_the_direction() -> None:
    assert judge_offset("InfluxDB", 86_400).result == "1 day ahead of the clock of InfluxDB"
    assert judge_offset("InfluxDB", -3_600).result == "1 hour behind the clock of InfluxDB"


@pytest.mark.parametrize(
    ("free", "growth", "severity"),
    [
        (4_000, 1_500, Severity.OK),
        (1_400, 1_500, Severity.ERROR),  # enough today, but not during a long network outage
        (900, 0, Severity.WARNING),
        (99, 0, Severity.ERROR),
    ],
)
def test_disk_needs_space_for_the_configured_growth(free: int, growth: int, severity: Severity) -> None:
    assert judge_disk("outbox", free=free * MB, growth=growth * MB, fix="make room").severity is severity


@pytest.mark.parametrize(
    ("first", "second", "severity", "result"),
    [
        # (end, committed) of two partitions; a transaction marker counts in the offsets and is never consumed
        ((100, 100), (100, 100), Severity.OK, "no records wait"),
        ((100, 96), (100, 96), Severity.OK, "no records wait"),
        ((100, 90), (200, 185), Severity.OK, "15 records wait, 95 were consumed in 4 s"),
        ((100, 0), (200, 150), Severity.OK, "50 records wait, 150 were consumed in 4 s"),
        ((100, 50), (200, 60), Severity.ERROR, "the lag is growing: 140 records, 90 more in 4 s"),
        ((100, 50), (100, 50), Severity.ERROR, "50 records wait; in 4 s 0 were added and none was consumed"),
        ((100, 50), (180, 50), Severity.ERROR, "130 records wait; in 4 s 80 were added and none was consumed"),
    ],
)
def test_consumer_lag_is_an_error_when_it_grows_or_stands_still(
    first: tuple[int, int], second: tuple[int, int], severity: Severity, result: str
) -> None:
    samples = [LagSample(end, done, partitions=2) for end, done in (first, second)]

    found = judge_lag("workers", *samples, seconds=4, start="vitalloom worker", more="start more of them")

    assert (found.severity, found.result) == (severity, result)


def test_group_without_members_is_an_error_even_without_lag() -> None:
    sample = LagSample(10, 10, partitions=1, members=False)

    found = judge_lag("workers", sample, sample, seconds=4, start="vitalloom worker", more="start more of them")

    assert (found.severity, found.fix) == (Severity.ERROR, "start one: vitalloom worker")


@pytest.mark.parametrize(
    ("write", "read", "problem", "severity", "result"),
    [
        (204, 200, "", Severity.OK, "can be read and written"),
        (401, 401, "", Severity.ERROR, "the token in t is not valid there"),
        (
            404,
            404,
            'bucket "vitals" not found',
            Severity.ERROR,
            "the bucket does not exist, or the token has no access to it",
        ),
        (404, 404, 'organization name "x" not found', Severity.ERROR, "the organisation ward does not exist"),
        (403, 200, "", Severity.ERROR, "the token in t has no permission to write"),
        (204, 403, "", Severity.ERROR, "the token in t has no permission to read"),
        (503, 200, "engine: closed", Severity.ERROR, "answers 503: engine: closed"),
    ],
)
def test_bucket_is_checked_for_existence_and_permissions(
    write: int, read: int, problem: str, severity: Severity, result: str
) -> None:
    found = judge_bucket(BucketAccess("vitals", write, read, problem), url="http://db:8086", org="ward", token_file="t")

    assert (found.severity, found.result) == (severity, result)


def test_results_are_sorted_by_severity() -> None:
    found = worst_first([ok("a", ""), warning("b", "", ""), failure("c", "", ""), ok("d", "")])

    assert [one.subject for one in found] == ["c", "b", "a", "d"]


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
def test_durations_are_written_in_words(ms: int, words: str) -> None:
    assert span(ms) == words


@pytest.mark.parametrize(
    ("waits_ms", "severity", "result"),
    [
        (0, Severity.OK, "at once"),
        (15 * 60_000, Severity.WARNING, "waits 15 minutes"),
        (None, Severity.WARNING, "no person"),
    ],
)
def test_an_urgent_news2_that_waits_is_a_warning(waits_ms: int | None, severity: Severity, result: str) -> None:
    found = judge_urgent_ladder(waits_ms, source="desk.toml")

    assert found.severity is severity
    assert found.result.startswith(result)
    assert ("desk.toml" in found.fix) == (severity is Severity.WARNING)


@pytest.mark.parametrize(
    ("policy", "severity"),
    [
        ("", Severity.OK),
        (
            '[policy.medium]\n[[policy.medium.steps]]\ndelay_ms = 900000\nwho = "nurse"\nchannels = ["push"]',
            Severity.WARNING,
        ),
        ("[policy.rules.news2]\n[policy.rules.news2.medium]\nsteps = []", Severity.WARNING),
        ("[policy.medium]\nsteps = 3", Severity.ERROR),
    ],
)
def test_the_ladders_in_the_folder_of_a_site_are_checked(policy: str, severity: Severity, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "desk.toml").write_text(policy, encoding="utf-8")

    found = check_desk(tmp_path)

    assert found[0].severity is severity


def test_a_site_without_a_desk_has_no_ladder_to_check(tmp_path: Path) -> None:
    assert check_desk(tmp_path) == []


def test_a_time_zone_that_was_not_stated_is_a_warning() -> None:
    assert judge_time_zone("Europe/Berlin", source="desk.toml").severity is Severity.OK
    assert judge_time_zone("", source="desk.toml").severity is Severity.WARNING

"""End dates at the desk: an alarm of the site at each step, answered like another, cleared when it is renewed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.end_dates import DAY_MS, EndDate, notes
from runtime.hardening import write_private
from stream.config import DeskApiConfig, DeskTls
from stream.desk.end_dates import EndDates
from stream.desk.http import shown_of
from stream.desk.process import _started_with
from stream.site.end_dates import write_end_dates
from stream.tls import CertifiedContext, FollowingContext
from tests.stream.desk.alarms import MINUTE, NOW, SECOND
from tests.stream.desk.test_desk import Night, lived
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem

END = NOW + 60 * DAY_MS


def the_issuing_key(**changes: Any) -> EndDate:
    facts = {"what": "certificate of the issuing key", "ends_ms": END, "renewed_by": "a person", "fix": "renew it"}
    return EndDate(**(facts | changes))


class House(Night):
    """A desk, and the folder of its site, where the registry writes what ends."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site"
        self.site.mkdir(mode=0o700)
        super().__init__(folder, site=self.site, site_name="North")
        self.report(the_issuing_key())

    def report(self, *ends: EndDate) -> None:
        write_end_dates(self.site, ends, at_ms=self.clock.now_ms())

    def look(self, *, days_left: float, ends: EndDate | None = None) -> None:
        """As the desk does every minute."""
        self.clock.set_wall(END - int(days_left * DAY_MS))
        self.report(ends or the_issuing_key())
        watched = EndDates(self.config, self.clock, None)
        watched.tell(self.desk)

    def list(self) -> list[tuple[str, str, str]]:
        return [(one.place, one.priority, one.state) for one in map(shown_of, self.desk.standing())]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.book.close()


@pytest.mark.slow
def test_it_is_listed_at_30_days_called_for_at_14_and_at_3(house: House) -> None:
    found = []
    called = []

    async def story() -> None:
        for days_left in (31, 30, 20, 14, 3, -1):
            house.look(days_left=days_left)
            await house.pass_time(16 * MINUTE)
            found.append(house.list())
            called.append(len(house.channels.sent))
            for one in house.desk.standing():
                house.desk.acknowledge(one.kept.alarm.alarm_id, by="anna", revision=one.kept.alarm.revision)

    lived(story)

    levels = ("low", "low", "medium", "high", "high")
    assert found == [[], *([("the site", level, "active")] for level in levels)]
    # Nobody is called at 30 days; from then on each step calls in spite of the answer to the one before.
    assert called[:3] == [0, 0, 0]
    assert 0 < called[3] < called[4] < called[5]


def test_the_message_says_what_ends_and_the_fix(house: House) -> None:
    async def story() -> None:
        house.look(days_left=3)
        await house.pass_time(SECOND)

    lived(story)

    message = house.channels.sent[0][2]
    assert message.title == "*** high technical alarm, the site, North"
    assert "certificate of the issuing key expires in 3 days, on 2024-01-13; fix: renew it" in message.body


def test_an_answer_stays_at_the_desk_as_no_patient_has_this_alarm(house: House) -> None:
    house.look(days_left=14)
    (one,) = house.desk.standing()

    house.desk.acknowledge(one.kept.alarm.alarm_id, by="anna", revision=one.kept.alarm.revision)

    assert house.desk.to_pass_on() == []
    assert house.desk.standing()[0].kept.is_confirmed


def test_looking_again_and_a_restart_change_nothing(house: House) -> None:
    house.look(days_left=14)
    before = house.desk.standing()

    house.look(days_left=13.9)
    house.wake()
    house.look(days_left=13.8)

    assert [one.kept for one in house.desk.standing()] == [one.kept for one in before]


def test_what_was_renewed_leaves_the_list(house: House) -> None:
    house.look(days_left=3)

    house.look(days_left=2.9, ends=the_issuing_key(ends_ms=END + 365 * DAY_MS))

    assert [one for one in house.list() if one[2] == "active"] == []


def test_a_registry_that_stopped_is_told_by_the_desk_alone(house: House) -> None:
    watched = EndDates(house.config, house.clock, None)
    house.clock.advance(3 * DAY_MS)
    watched.look()
    watched.tell(house.desk)

    assert house.list() == [("the site", "high", "active")]
    assert "start it: vitalloom registry serve" in watched.watch.notes()[0]
    assert watched.watch.trouble() == ""  # the desk itself is well


def test_a_simulated_ward_has_no_end_dates(tmp_path: Path) -> None:
    night = Night(tmp_path, clock_file=tmp_path / "clock", site=tmp_path)
    write_end_dates(tmp_path, [the_issuing_key()], at_ms=NOW)

    EndDates(night.config, night.clock, None).tell(night.desk)

    assert night.desk.standing() == []
    night.book.close()


# The desk's own certificate


class Shown:
    """The certificate of a desk, replaced by somebody else."""

    def __init__(self, folder: Path, night: Night) -> None:
        self.authority, _ = Authority.begin("hospital", at=moment(NOW))
        self.files = DeskTls(certificate=folder / "desk.crt", key=folder / "desk.key")
        self.night = night
        self.put(days=20)

    def put(self, *, days: float) -> None:
        key = new_tls_key()
        at = moment(self.night.clock.now_ms())
        made = self.authority.server(key.public_key(), hosts=["desk"], at=at, days=days)
        write_private(self.files.key, key_pem(key))
        write_private(self.files.certificate, pem(made))

    def following(self) -> FollowingContext:
        from stream.desk.http import _following

        return _following(self.files)


def test_its_own_expired_certificate_makes_the_desk_unready_until_it_is_replaced(tmp_path: Path) -> None:
    night = Night(tmp_path)
    shown = Shown(tmp_path, night)
    config = night.config
    night.config = type(config)(roles=config.roles, addresses=config.addresses, api=DeskApiConfig(tls=shown.files))
    watched = EndDates(night.config, night.clock, shown.following())
    assert "certificate of the alarm desk expires in 20 days" in watched.watch.notes()[0]
    assert watched.watch.trouble() == ""

    night.clock.advance(21 * DAY_MS)
    watched.look()
    assert "certificate of the alarm desk expired 1 day ago" in watched.watch.trouble()

    shown.put(days=90)
    watched.look()
    assert (watched.watch.trouble(), watched.watch.notes()) == ("", [])
    night.book.close()


def test_a_certificate_that_cannot_be_used_leaves_the_one_before_in_use_and_is_named(tmp_path: Path) -> None:
    night = Night(tmp_path)
    shown = Shown(tmp_path, night)
    following = shown.following()
    before = following.current()

    write_private(shown.files.key, key_pem(new_tls_key()))  # and its certificate only later

    assert following.current() is before
    assert "changed and cannot be used" in following.problem
    shown.put(days=30)
    assert isinstance(following.current(), CertifiedContext)
    assert following.current() is not before
    assert following.problem == ""
    assert notes([], NOW) == []
    night.book.close()


def test_keys_that_wait_for_a_restart_are_named(tmp_path: Path) -> None:
    night = Night(tmp_path)
    before = night.config
    changed = type(before)(roles={"nurse": ("ben",)}, addresses=before.addresses, digest_after=3, keep_days=1)

    assert _started_with(before, changed) == (
        "changed in the configuration, and in force after a restart: digest_after, keep_days",
    )
    assert _started_with(before, before) == ()
    night.book.close()


@pytest.mark.slow
def test_an_alarm_that_ended_under_a_wrong_clock_is_raised_again(house: House) -> None:
    found = []

    async def story() -> None:
        for days_left in (-1, 31, 20, 2):  # the clock of the machine was a month ahead, then it was set right
            house.look(days_left=days_left)
            await house.pass_time(16 * MINUTE)
            found.append(house.list())

    lived(story)

    assert found == [
        [("the site", "high", "active")],
        [],
        [("the site", "low", "active")],
        [("the site", "high", "active")],
    ]


@pytest.mark.parametrize("loss", ["unreadable", "deleted"])
def test_a_report_that_cannot_be_read_ends_no_alarm(house: House, loss: str) -> None:
    house.clock.set_wall(END - 2 * DAY_MS)
    house.report(the_issuing_key())
    watched = EndDates(house.config, house.clock, None)
    watched.tell(house.desk)
    before = house.list()

    if loss == "deleted":
        (house.site / "end-dates.json").unlink()
    else:
        (house.site / "end-dates.json").write_bytes(b"{")
    watched.look()
    watched.tell(house.desk)

    assert before == house.list() == [("the site", "high", "active")]
    assert any("issuing key expires in 2 days" in note for note in watched.watch.notes())

"""`vitalloom orders`: a doctor sees in words what a file changes, and signs it; a nurse cannot move a red limit."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from stream.desk.users import Users
from stream.errors import StreamError
from stream.orders.commands import orders
from tests.stream.site.registries import Desk

PASSWORD = "correct horse battery"
MILD = '[order]\nlevel = "patient"\n[rule.shock_index]\nmedium = 1.2\n'
RED = '[order]\nlevel = "patient"\n[rule.news2]\nhigh = 9\n'


class Office:
    """A site in a folder, with a desk, a prescriber, a nurse and one patient."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        desk = Desk(folder)  # its clock stands still: what is set by command is set now
        wearable, edge = desk.enrol(), desk.enrol("edge")
        self.stay = desk.bind(wearable, edge, patient="P-17", bed="ward 7/4")
        desk.site.close()
        (self.site / "config").mkdir()
        self.desk = self.site / "config" / "desk.toml"
        self.desk.write_text(
            f'data = "{folder / "desk"}"\n[policy.named.renal.high]\nrepeat_ms = 300000\n'
            '[[policy.named.renal.high.steps]]\ndelay_ms = 0\nwho = "lead"\nchannels = ["push"]\n',
            encoding="utf-8",
        )
        users = Users(folder / "desk" / "users.json")
        users.put("dr lee", PASSWORD, now_ms=1, prescriber=True)
        users.put("nurse", PASSWORD, now_ms=1)

    def file(self, text: str, name: str = "order.toml") -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *words: str | Path, typed: str = "") -> Result:
        command = [str(one) for one in words]
        if command[0] not in ("check", "schema"):
            command += ["--site", str(self.site)]
        return CliRunner().invoke(orders, command, input=typed)

    def set(self, text: str, *words: str, by: str = "dr lee", typed: str = "") -> Result:
        options = ["--patient", "P-17"] if "--patient" not in words and "--ward" not in words else []
        return self.run(
            "set", self.file(text), "--by", by, "--why", "as agreed", "--yes", *options, *words, typed=typed
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture
def office(made: Office) -> Iterator[Office]:
    """The office without orders; a desk's registry file is copied back after each test."""
    registry = made.site / "registry.sqlite"
    kept = {one: one.read_bytes() for one in (registry, made.site / "audit.log")}
    yield made
    for extra in made.site.glob("registry.sqlite-*"):
        extra.unlink()
    for one, content in kept.items():
        one.write_bytes(content)


def problem(result: Result) -> str:
    assert isinstance(result.exception, StreamError), result.output
    return str(result.exception)


def test_a_file_is_checked_without_a_site(office: Office) -> None:
    good, bad = (
        office.file(MILD),
        office.file('[order]\nlevel = "patient"\n[rule.fever]\nmedium = "101 °F"\n', "f.toml"),
    )

    well, ill = office.run("check", good), office.run("check", good, bad)

    assert (well.exit_code, ill.exit_code) == (0, 1)
    assert f"{bad}:rule.fever" in ill.output
    assert "shock" in well.output.lower()


def test_check_says_what_needs_a_prescriber_and_which_ladder_is_missing(office: Office) -> None:
    red = office.run("check", office.file(RED))
    unknown = office.run("check", office.file(MILD + '[call]\nhigh = "cardiac"\n'), "--desk", office.desk)

    assert "needs a prescriber: news2" in red.output
    assert red.exit_code == 0
    assert unknown.exit_code == 1
    assert "call.high" in unknown.output


def test_what_was_set_is_shown_with_who_why_and_what_differs(office: Office) -> None:
    done = office.set(MILD, "--until", "8 h")
    shown = office.run("show", "P-17")
    told = msgspec.json.decode(office.run("show", "P-17", "--json").output)

    assert done.exit_code == 0, done.output
    assert "differs from what holds now" in done.output
    assert "by dr lee" in shown.output
    assert "as agreed" in shown.output
    assert "until" in shown.output
    assert "medium = 1.2" in shown.output
    assert told["version"] > 0
    assert told["levels"][0]["who"] == "dr lee"


def test_nothing_is_set_without_confirmation(office: Office) -> None:
    found = office.run("set", office.file(MILD), "--by", "dr lee", "--why", "as agreed", "--patient", "P-17")

    assert "add --yes" in problem(found)
    assert "nothing was ever ordered" in office.run("history", "P-17").output


def test_red_limits_need_the_password_of_a_prescriber(office: Office) -> None:
    right = office.set(RED, typed=f"{PASSWORD}\n")
    history = office.run("history", "P-17", "--json")

    assert right.exit_code == 0, right.output
    assert "only a prescriber may order this" in right.output
    assert PASSWORD not in right.output
    assert [one["by_prescriber"] for one in msgspec.json.decode(history.output)] == [True]


@pytest.mark.parametrize(
    ("by", "typed", "says"),
    [
        ("dr lee", "wrong password\n", "wrong name, password or login"),
        ("dr who", f"{PASSWORD}\n", "wrong name, password or login"),
        ("nurse", f"{PASSWORD}\n", "nurse is no prescriber"),
        ("", f"{PASSWORD}\n", "order.by"),
    ],
)
def test_who_is_no_prescriber_moves_no_red_limit(office: Office, by: str, typed: str, says: str) -> None:
    found = office.set(RED, by=by, typed=typed)

    assert says in problem(found)
    assert msgspec.json.decode(office.run("history", "P-17", "--json").output) == []


def test_a_nurse_may_order_what_is_not_red(office: Office) -> None:
    assert office.set(MILD, by="nurse").exit_code == 0


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (MILD, ("--patient", "P-99"), "P-99"),
        (MILD, ("--until", "2020-01-01T00:00:00Z"), "order.until"),
        (MILD, ("--until", "tomorrow"), "--until tomorrow"),
        (MILD + '[call]\nhigh = "cardiac"\n', (), 'there is no ladder "cardiac"'),
        (MILD, ("--ward", "ward 7"), "order.level"),
        ('[order]\nlevel = "patient"\n[rule.no_such]\nmedium = 1\n', (), "rule.no_such"),
    ],
)
def test_bad_orders_are_refused_with_the_fix(office: Office, text: str, words: tuple[str, ...], says: str) -> None:
    assert says in problem(office.set(text, *words))


def test_a_ladder_that_the_desk_has_can_be_ordered(office: Office) -> None:
    assert office.set(MILD + '[call]\nhigh = "renal"\n').exit_code == 0


def test_a_ward_has_orders_and_its_patients_show_them(office: Office) -> None:
    done = office.set(MILD.replace('"patient"', '"ward"\nname = "ward 7"'), "--ward", "Ward 7")
    shown = office.run("show", "P-17")

    assert done.exit_code == 0, done.output
    assert "stays that it is for now: 1" in done.output
    assert "ward ward 7, version 1" in shown.output


def test_a_profile_is_given_and_the_patients_other_orders_stay(office: Office) -> None:
    office.set(MILD)
    options = ("--patient", "P-17", "--use-profile", "athlete", "--by", "dr lee", "--why", "runs", "--yes")
    done = office.run("set", *options, typed=f"{PASSWORD}\n")
    shown = office.run("show", "P-17").output

    assert done.exit_code == 0, f"{done.output} {done.exception}"
    assert 'profile = "athlete"' in shown
    assert 'medium = "1.2"' in shown


def test_history_keeps_what_each_order_said(office: Office) -> None:
    office.set(MILD)
    office.set(MILD.replace("1.2", "1.3"))

    texts = office.run("history", "P-17", "--toml").output
    table = office.run("history", "P-17").output

    assert texts.index("medium = 1.2") < texts.index("medium = 1.3")
    assert table.count("dr lee") == 2


def test_the_schema_is_one_for_editors(office: Office) -> None:
    assert "OrderFile" in office.run("schema").output

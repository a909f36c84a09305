"""The commands of a site, run as a user would run them."""

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vitalloom
from runtime.clock import SystemClock
from stream.site import commands
from stream.site.folder import Site
from tests.stream.site.registries import DAY, new_keys
from wire.enrol.client import enrol_request
from wire.enrol.requests import Invitation
from wire.enrol.wallet import Wallet
from wire.identity import Role

ROOT = Path(__file__).parents[3]
GROUPS = {
    "pki": ["init", "issue", "renew", "revoke", "show"],
    "registry": [
        "serve",
        "add",
        "invite",
        "admit",
        "bind",
        "unbind",
        "exchange",
        "move",
        "facts",
        "discharge",
        "stays",
        "bindings",
    ],
    "broker": ["write"],
    "audit": ["verify"],
}


class Ran(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def run(*words: str | Path) -> Ran:
    """The front door, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["vitalloom", *(str(one) for one in words)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                vitalloom.main()
            except SystemExit as done:
                code = int(done.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


class Centre:
    """A site that commands are given for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        assert run("pki", "init", "--site", folder, "--name", "north").code == 0

    def run(self, *words: str | Path) -> Ran:
        return run(*words, "--site", self.folder)

    def ok(self, *words: str | Path) -> str:
        """What a command says that works."""
        ran = self.run(*words)
        assert ran.code == 0, ran
        return ran.out

    def refused(self, *words: str | Path) -> str:
        """The sentence of a command that does not."""
        ran = self.run(*words)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert ran.err.startswith("vitalloom: ")
        assert ran.err.count("\n") == 1
        return ran.err

    def add(self, role: Role, *more: str) -> Invitation:
        return Invitation.parse(self.ok("registry", "add", role, "--quiet", *more))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Site]:
        with contextlib.closing(Site.open(self.folder, clock=SystemClock())) as site:
            yield site

    def enrol(self, invitation: Invitation) -> Wallet:
        keys = new_keys()
        with self.opened() as site:
            server = site.server_certificate()
            reply = site.enrolment.enrol(
                enrol_request(invitation, keys, server), server=server, address="192.0.2.7", mono_ms=0
            )
        folder = self.folder.parent / invitation.device_id.hex()
        return Wallet.begin(folder, reply, keys, registry=invitation.url, pin=invitation.pin)

    def shown(self, device: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("pki", "show", *([device] if device else []), "--json"))
        return found

    def bound(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ok("registry", "bindings", "--json"))
        return found


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre(tmp_path / "site")


def bind(centre: Centre, wearable: str, edge: str, patient: str = "P0001", *more: str) -> Ran:
    return centre.run(
        "registry", "bind", "--wearable", wearable, "--edge", edge, "--patient", patient, "--bed", "7",
        *(more if {"--age", "--unknown"} & set(more) else (*more, "--age", "67", "--sex", "male")),
    )  # fmt: skip


# Help


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_and_command_has_help(group: str) -> None:
    top = run(group, "--help")
    assert top.code == 0
    for name in GROUPS[group]:
        assert name in top.out
        output = run(group, name, "--help")
        assert output.code == 0
        assert "--site" in output.out or name == "serve"

    described = {one.name or one.callback.__name__ for one in getattr(commands, group).registered_commands}  # type: ignore[union-attr]
    assert described == set(GROUPS[group])


def test_the_groups_are_in_the_help_of_the_front_door() -> None:
    output = run("--help").out

    for group in GROUPS:
        assert group in output


# A site


def test_a_site_begins_with_one_command(tmp_path: Path) -> None:
    ran = run("pki", "init", "--site", tmp_path / "site", "--host", "rpm.example", "--registry-port", "9443")

    assert ran.code == 0
    assert f"vitalloom broker write --site {tmp_path / 'site'}" in ran.out
    assert "root.key in a safe" in ran.out
    with contextlib.closing(Site.open(tmp_path / "site", clock=SystemClock())) as site:
        assert site.facts.url == "https://rpm.example:9443"
        assert site.authority.pin.hex() in ran.out


def test_the_folder_may_come_from_the_environment(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITALLOOM_SITE", str(centre.folder))

    assert run("pki", "show").code == 0


def test_a_site_is_not_begun_twice(centre: Centre) -> None:
    assert "name an empty folder" in centre.refused("pki", "init")


@pytest.mark.parametrize(("option", "text"), [("--name", "x" * 41), ("--host", "two words"), ("--host", "")])
def test_names_that_no_certificate_can_hold_are_refused(tmp_path: Path, option: str, text: str) -> None:
    ran = run("pki", "init", "--site", tmp_path / "site", option, text)

    assert ran.code == 2
    assert not (tmp_path / "site").exists()


SERVE = pytest.param(("registry", "serve"), marks=pytest.mark.services)


@pytest.mark.parametrize(
    "words",
    [
        ("pki", "show"), ("pki", "issue", "registry"), ("pki", "renew", "control"), ("pki", "revoke", "ab"),
        ("registry", "add", "edge"), ("registry", "invite", "ab"), ("registry", "bindings"),
        ("registry", "unbind", "ab"), SERVE, ("broker", "write"), ("audit", "verify"),
    ],
)  # fmt: skip
def test_without_a_site_every_command_says_how_to_begin_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    if words == ("registry", "serve"):  # hardens its process, so not in this one
        done = subprocess.run(
            [sys.executable, "-m", "vitalloom", *words, "--site", str(tmp_path / "none")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout, done.stderr.splitlines(keepends=True)[-1])
    else:
        ran = run(*words, "--site", tmp_path / "none")

    assert ran.code == 2
    assert f"vitalloom pki init --site {tmp_path / 'none'}" in ran.err


# Devices


def test_adding_a_device_prints_its_invitation(centre: Centre) -> None:
    output = centre.ok("registry", "add", "wearable", "--label", "shelf 3")

    invitation = Invitation.parse(output.splitlines()[-1])
    assert f"device {invitation.device_id.hex()}: this invitation is valid once, for 60 minutes" in output
    assert "vitalloom enrol --dir" in output
    centre.enrol(invitation)


def test_quiet_is_the_invitation_alone(centre: Centre) -> None:
    output = centre.ok("registry", "add", "edge", "--quiet")

    assert output.count("\n") == 1
    assert centre.enrol(Invitation.parse(output)).me.role == "edge"


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_the_code_is_written_as_a_picture_for_its_owner_alone(
    centre: Centre, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    png = tmp_path / "code.png"

    output = centre.ok("registry", "add", "wearable", "--png", png, *quiet)

    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert png.stat().st_mode & 0o777 == 0o600
    assert ("delete it" in output) is (quiet == ())


def test_a_picture_in_a_missing_folder_is_refused_before_the_device_is_invited(centre: Centre, tmp_path: Path) -> None:
    invitation = centre.add("wearable")

    output = centre.refused("registry", "invite", invitation.device_id.hex(), "--png", tmp_path / "none" / "code.png")

    assert "its folder does not exist" in output
    centre.enrol(invitation)


def test_a_second_invitation_voids_the_first(centre: Centre) -> None:
    first = centre.add("wearable")

    second = Invitation.parse(centre.ok("registry", "invite", first.device_id.hex()[:8], "--quiet"))

    assert (second.device_id, second.pin) == (first.device_id, first.pin)
    assert second.token != first.token
    with pytest.raises(Exception, match="ask for a new one"):
        centre.enrol(first)
    centre.enrol(second)


def test_a_role_that_is_none_is_told_so(centre: Centre) -> None:
    assert "is a wearable or an edge" in centre.refused("registry", "add", "ingest")


@pytest.mark.parametrize("label", ["x" * 65, "a\nb"])
def test_a_label_fits_on_a_label(centre: Centre, label: str) -> None:
    assert "label: at most 64 printable characters" in centre.refused("registry", "add", "edge", "--label", label)


@pytest.mark.parametrize("name", ["nobody", "ff", "'; DROP TABLE device; --", "x" * 10_000, "a\nb"])
def test_a_wrong_name_is_answered_by_a_sentence_with_the_cure(centre: Centre, name: str) -> None:
    for words in (("pki", "revoke"), ("pki", "renew"), ("pki", "show"), ("registry", "invite")):
        output = centre.refused(*words, name)
        assert "`vitalloom pki show` lists them" in output
        assert len(output) < 200


# What is shown


def test_show_tells_the_state_of_each_device(centre: Centre) -> None:
    enrolled, waiting, gone = centre.add("edge"), centre.add("wearable"), centre.add("wearable")
    centre.enrol(enrolled)
    centre.enrol(gone)
    centre.ok("pki", "revoke", gone.device_id.hex(), "--why", "lost")

    lines = centre.ok("pki", "show").splitlines()

    state = {one: next(line for line in lines if one.device_id.hex() in line) for one in (enrolled, waiting, gone)}
    assert "30 days left" in state[enrolled]
    assert "not enrolled yet" in state[waiting]
    assert "(lost)" in state[gone]
    assert any("registry" in line and "90 days left" in line for line in lines)


@pytest.mark.services
@pytest.mark.parametrize("columns", ["20", "80"])
def test_ids_are_whole_in_a_narrow_terminal_and_in_a_pipe(centre: Centre, columns: str) -> None:
    ids = [centre.add("wearable", "--label", "a label of some length, so that the line is long").device_id.hex()]
    ids.append(centre.add("edge").device_id.hex())
    command = [sys.executable, "-m", "vitalloom", "pki", "show", "--site", str(centre.folder)]
    environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm"}

    piped = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    main, side = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=side, stderr=side, stdin=side):
        os.close(side)
        seen = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(main, 65_536):
                seen += part
    os.close(main)

    for one in ids:
        assert one in piped
        assert one in seen.decode()
    assert "label of some length, so that the line is long" in piped


@pytest.mark.parametrize("text", ["[red]x[/]", "[/]", "[bold", ":warning:", "<b>", "=1+1", "病床"])
def test_a_label_is_shown_as_it_is(centre: Centre, text: str) -> None:
    wearable, edge = centre.add("wearable", "--label", text), centre.add("edge")
    assert bind(centre, wearable.device_id.hex(), edge.device_id.hex(), text).code == 0
    centre.ok("pki", "revoke", edge.device_id.hex(), "--why", text)

    shown = centre.ok("pki", "show")

    assert shown.count(text) == 2
    assert text in centre.ok("registry", "bindings")
    assert text in {one["label"] for one in centre.shown()["devices"]}


def test_show_of_one_device_shows_its_certificates(centre: Centre) -> None:
    edge, other = centre.add("edge"), centre.add("wearable")
    centre.enrol(edge)
    name = edge.device_id.hex()

    found = centre.shown(name[:10])

    assert [one["device_id"] for one in found["devices"]] == [name]
    assert {one["name"] for one in found["certificates"]} == {name, f"{name}-a"}
    assert other.device_id.hex() not in centre.ok("pki", "show", name)


def test_json_is_one_object_without_a_secret(centre: Centre) -> None:
    invitation = centre.add("wearable")
    centre.enrol(invitation)

    text = centre.ok("pki", "show", "--json")

    assert set(json.loads(text)) == {"devices", "certificates"}
    assert invitation.token.hex() not in text
    (row,) = [one for one in json.loads(text)["devices"] if one["device_id"] == invitation.device_id.hex()]
    assert row["not_after_ms"] - row["enrolled_ms"] == 30 * DAY


def test_what_has_run_out_names_the_command(centre: Centre) -> None:
    invitation = centre.add("wearable")
    centre.enrol(invitation)
    locked = centre.add("edge")
    with centre.opened() as site:
        site.registry.file.execute("UPDATE credential SET not_after_ms = not_after_ms - ?", (40 * DAY,))
        site.registry.file.execute("UPDATE certificate SET not_after_ms = not_after_ms - ?", (140 * DAY,))
        site.registry.file.execute("UPDATE device SET bad_tries = 5 WHERE device_id = ?", (locked.device_id.hex(),))

    output = centre.ok("pki", "show")

    assert f"expired 10 days ago: run `vitalloom pki renew {invitation.device_id.hex()}`" in output
    assert f"locked after bad tokens: run `vitalloom registry invite {locked.device_id.hex()}`" in output
    for name in ("registry", "monitor"):
        assert f"expired 50 days ago: run `vitalloom pki renew {name}`" in output


# Bindings


def test_a_wearable_is_put_on_a_patient_and_taken_off(centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()

    assert bind(centre, wearable[:10], edge[:10], "P0001", "--spo2-scale", "2").code == 0
    (open_one,) = centre.bound()
    output = centre.ok("registry", "unbind", wearable[:10])
    (ended,) = centre.bound()

    assert (open_one["wearable_id"], open_one["edge_id"]) == (wearable, edge)
    assert (open_one["patient"], open_one["bed"], open_one["spo2_scale"]) == ("P0001", "7", 2)
    assert open_one["valid_to_ms"] is None
    assert open_one["binding_id"] in output
    assert ended["valid_to_ms"] >= ended["valid_from_ms"]
    table = centre.ok("registry", "bindings")
    assert open_one["binding_id"][:12] in table
    assert "P0001" in table


def test_what_models_have_to_be_told_is_told_with_the_binding(centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()

    ran = bind(centre, wearable, edge, "P0001", "--age", "67", "--sex", "female", "--not-pregnant", "--chest-pain", "4")

    assert ran.code == 0
    (bound,) = centre.bound()
    assert bound["about"] == {"age_years": 67.0, "is_male": False, "chest_pain": 4, "is_pregnant": False}


@pytest.mark.parametrize(
    "options",
    [
        ("--age", "200"),
        ("--age", "67", "--sex", "unknown"),
        ("--age", "67", "--chest-pain", "5"),
        ("--age", "old"),
        ("--age", "30", "--sex", "male", "--pregnant"),
    ],
)
def test_what_cannot_be_said_of_a_patient_is_refused(options: tuple[str, ...], centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()

    assert bind(centre, wearable, edge, "P0001", *options).code == 2
    assert centre.bound() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--age", "8"), "warning: under 16: no NEWS2, no other adult score, no model"),
        (("--age", "15.9", "--sex", "male"), "warning: under 16: no NEWS2"),
        (("--age", "30", "--sex", "female", "--pregnant"), "warning: pregnant: no NEWS2"),
        (("--unknown",), "warning: age or pregnancy is not stated: scored as an adult"),
        (("--age", "30", "--unknown"), "warning: age or pregnancy is not stated"),
        (("--age", "16", "--not-pregnant"), ""),
        (("--age", "67", "--sex", "male"), ""),
    ],
)
def test_whom_adult_scores_are_not_for_is_said_at_once(options: tuple[str, ...], says: str, centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()

    ran = bind(centre, wearable, edge, "P0001", *options)

    assert ran.code == 0
    assert ran.err.startswith(says)
    assert bool(ran.err) == bool(says)


@pytest.mark.parametrize("options", [(), ("--sex", "male"), ("--age", "30")])
def test_without_a_terminal_what_is_not_stated_is_said_to_be_scored_as_an_adult(
    options: tuple[str, ...], centre: Centre
) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()
    known = ("--wearable", wearable, "--edge", edge, "--patient", "P0001", "--bed", "7")

    ran = centre.run("registry", "bind", *known, *options)

    assert ran.code == 0
    assert "not for people under 16 nor in pregnancy: state --age and --pregnant or --not-pregnant" in ran.err


def test_a_second_wearable_of_a_patient_joins_and_another_patient_in_the_bed_is_refused(centre: Centre) -> None:
    first, second = centre.add("wearable").device_id.hex(), centre.add("wearable").device_id.hex()
    edge = centre.add("edge").device_id.hex()

    foreign = [bind(centre, first, edge), bind(centre, second, edge, "P0002")][1]
    also_worn = bind(centre, second, edge)

    assert foreign.code == 2
    assert "bed 7 has another patient" in foreign.err
    commands_named = [one for one in foreign.err.split("`") if one.startswith("vitalloom registry")]
    assert [one.split()[2] for one in commands_named] == ["discharge", "move"]
    assert also_worn.code == 0
    assert "wears another device already" in also_worn.out
    assert "has 2 devices, which are judged together" in also_worn.out
    assert len({one["stay_id"] for one in centre.bound()}) == 1


# Stays


def stays(centre: Centre) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(centre.ok("registry", "stays", "--json"))
    return found


def test_from_admission_to_discharge(centre: Centre) -> None:
    patch, cuff, spare = (
        centre.add("wearable", "--label", name).device_id.hex() for name in ("patch", "cuff", "spare")
    )
    edge = centre.add("edge").device_id.hex()

    admitted = centre.run("registry", "admit", "P0001", "--bed", "7", "--age", "67", "--sex", "male")
    assert admitted.code == 0
    (empty,) = stays(centre)
    assert empty["stay_id"] in admitted.out
    assert (empty["devices"], empty["note"][:2]) == ([], "**")
    for wearable in (patch, cuff):
        centre.ok("registry", "bind", "--wearable", wearable, "--edge", edge, "--patient", "P0001")
    assert "the stay goes on" in centre.ok("registry", "exchange", "patch", "--wearable", "spare")
    assert "bed 9 instead of 7" in centre.ok("registry", "move", "P0001", "--bed", "9")

    (stay,) = stays(centre)
    assert (stay["stay_id"], stay["bed"], stay["note"]) == (empty["stay_id"], "9", "")
    assert {one["name"] for one in stay["devices"]} == {"cuff", "spare"}
    assert "│ P0001 │ 9 │ cuff, spare │" in " ".join(centre.ok("registry", "stays").split())
    assert "and 2 bindings with it" in centre.ok("registry", "discharge", stay["stay_id"][:10])
    assert stays(centre) == []
    assert all(one["valid_to_ms"] is not None for one in centre.bound())
    assert spare in {one["wearable_id"] for one in centre.bound()}


def test_taking_off_the_last_device_says_that_monitoring_has_ended(centre: Centre) -> None:
    wearables, edge = [centre.add("wearable").device_id.hex() for _ in range(2)], centre.add("edge").device_id.hex()
    for one in wearables:
        bind(centre, one, edge)

    assert "goes on with 1 device" in centre.ok("registry", "unbind", wearables[0])
    assert "the stay of this patient has ended, and with it monitoring" in centre.ok("registry", "unbind", wearables[1])

    assert stays(centre) == []


def test_a_stay_may_go_on_without_a_device(centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()
    bind(centre, wearable, edge)

    said = centre.ok("registry", "unbind", wearable, "--stay-open")

    (stay,) = stays(centre)
    assert f"vitalloom registry discharge {stay['stay_id'][:12]}" in said
    assert "no device" in centre.ok("registry", "stays")


def test_a_first_device_needs_a_bed_and_a_further_one_is_in_it(centre: Centre) -> None:
    edge = centre.add("edge").device_id.hex()
    words = ["registry", "bind", "--edge", edge, "--patient", "P0001", "--unknown", "--wearable"]

    assert "--bed is needed" in centre.refused(*words, centre.add("wearable").device_id.hex())
    assert bind(centre, centre.add("wearable").device_id.hex(), edge).code == 0
    assert centre.run(*words, centre.add("wearable").device_id.hex()).code == 0
    elsewhere = centre.run(*words, centre.add("wearable").device_id.hex(), "--bed", "8")

    assert elsewhere.code == 2
    assert "is in bed 7, not 8" in elsewhere.err
    assert "vitalloom registry move" in elsewhere.err


def test_facts_are_stated_once_and_corrected_by_their_own_command(centre: Centre) -> None:
    edge = centre.add("edge").device_id.hex()
    bind(centre, centre.add("wearable").device_id.hex(), edge, "P0001", "--unknown")

    other = bind(centre, centre.add("wearable").device_id.hex(), edge, "P0001", "--age", "67", "--sex", "male")
    wrong = bind(centre, centre.add("wearable").device_id.hex(), edge, "P0001", "--age", "76", "--spo2-scale", "2")

    assert (other.code, other.err) == (0, "")
    assert wrong.code == 2
    assert "age_years is 67, spo2_scale is 1" in wrong.err
    assert "vitalloom registry facts" in wrong.err
    centre.ok("registry", "facts", "P0001", "--age", "76", "--spo2-scale", "2")
    assert {(one["about"]["age_years"], one["spo2_scale"]) for one in centre.bound()} == {(76.0, 2)}


@pytest.mark.parametrize("text", ["P0002", "ffffffffffff", "", "a\nb", "x" * 10_000])
def test_only_a_patient_who_is_admitted_is_moved_or_discharged(centre: Centre, text: str) -> None:
    bind(centre, centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex())

    for words in (("discharge", text), ("move", text, "--bed", "8"), ("facts", text, "--age", "8")):
        assert len(centre.refused("registry", *words)) < 250

    assert [one["bed"] for one in stays(centre)] == ["7"]


def test_a_wearable_that_is_worn_names_the_command_that_frees_it(centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()
    bind(centre, wearable, edge)

    ran = bind(centre, wearable, edge, "P0002")

    assert ran.code == 2
    command = ran.err.split("`")[1].split()
    assert command[:3] == ["vitalloom", "registry", "unbind"]
    centre.ok(*command[1:])
    assert bind(centre, wearable, edge, "P0002").code == 0


@pytest.mark.parametrize("text", ["nothing", "P0001", "7", "ff" * 16])
def test_only_what_was_named_is_unbound(centre: Centre, text: str) -> None:
    wearable = "a" * 32  # drawn, it could begin with what is named
    with centre.opened() as site:
        site.registry.add_device("wearable", who="tester", device_id=bytes.fromhex(wearable))
    edge = centre.add("edge").device_id.hex()
    bind(centre, wearable, edge)
    with centre.opened() as site:
        site.registry.file.execute("UPDATE binding SET binding_id = ?", ("b" * 32,))

    centre.refused("registry", "unbind", text)

    assert [one["valid_to_ms"] for one in centre.bound()] == [None]


def test_devices_in_the_wrong_place_are_refused(centre: Centre) -> None:
    wearable, edge = centre.add("wearable").device_id.hex(), centre.add("edge").device_id.hex()

    assert "has the role edge, not wearable" in bind(centre, edge, wearable).err
    assert bind(centre, wearable, edge, "P", "--spo2-scale", "3").code == 2
    assert centre.bound() == []


# Renewing, issuing, revoking


def test_a_device_whose_certificate_is_over_is_invited_again_and_keeps_its_patient(centre: Centre) -> None:
    invitation, edge = centre.add("wearable"), centre.add("edge")
    wallet = centre.enrol(invitation)
    bind(centre, invitation.device_id.hex(), edge.device_id.hex())

    output = centre.ok("pki", "renew", invitation.device_id.hex()[:12])
    again = centre.enrol(Invitation.parse(output.splitlines()[-1]))

    assert again.me.device_id == wallet.me.device_id
    assert again.me.credential_serial != wallet.me.credential_serial
    assert [one.valid_to_ms for one in again.provision.directory.bindings()] == [None]


def test_a_revoked_device_is_not_invited_again(centre: Centre) -> None:
    name = centre.add("wearable").device_id.hex()
    assert f"device {name} is revoked" in centre.ok("pki", "revoke", name)

    output = centre.refused("pki", "renew", name)

    assert "vitalloom registry add wearable" in output


@pytest.mark.parametrize("what", ["registry", "control", "monitor", "issuing"])
def test_what_the_site_itself_has_is_renewed(centre: Centre, what: str) -> None:
    wallet = centre.enrol(centre.add("edge"))

    output = centre.ok("pki", "renew", what)

    assert f"{what}: renewed" in output
    with centre.opened() as site:
        for frame in site.registry.documents.documents_for(wallet.me.device_id):
            wallet.accept(frame)
        assert wallet.digest == site.registry.documents.digest_for(wallet.me.device_id)


def test_an_encrypted_root_key_is_asked_for_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed, asked = ["a long one"], []

    def prompt(text: str, **_: object) -> str:
        asked.append(text)
        return typed[0]

    monkeypatch.setattr(commands.typer, "prompt", prompt)
    site = tmp_path / "site"

    assert run("pki", "init", "--encrypt-root", "--site", site).code == 0
    assert run("pki", "renew", "issuing", "--site", site).code == 0
    typed[0] = "another"
    wrong = run("pki", "renew", "issuing", "--site", site)

    assert len(asked) == 3
    assert wrong.code == 2
    assert "its passphrase is another" in wrong.err


def test_a_server_certificate_keeps_its_names(centre: Centre) -> None:
    centre.ok("pki", "issue", "registry", "--host", "registry.example")
    centre.ok("pki", "renew", "registry")

    with centre.opened() as site:
        assert b"registry.example" in site.server_certificate()


@pytest.mark.parametrize(
    ("what", "fix"),
    [("broker", "vitalloom broker write"), ("wearable", "vitalloom registry add"), ("", "vitalloom registry add")],
)
def test_issuing_another_certificate_names_the_command_for_it(centre: Centre, what: str, fix: str) -> None:
    assert fix in centre.refused("pki", "issue", what)


def test_a_service_is_revoked_by_its_name(centre: Centre) -> None:
    assert "monitor: 1 certificates revoked" in centre.ok("pki", "revoke", "monitor")
    assert "monitor.pem: issued" in centre.ok("pki", "issue", "monitor")

    states = [one["revoke_ms"] is None for one in centre.shown()["certificates"] if one["name"] == "monitor"]
    assert sorted(states) == [False, True]


# The log


def test_the_log_names_who_did_what(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    centre.add("edge")

    log = [json.loads(line) for line in (centre.folder / "audit.log").read_text(encoding="utf-8").splitlines()]

    assert [(one["what"], one["who"]) for one in log[-2:]] == [("device added", "ann"), ("invited", "ann")]


def test_who_has_no_name_has_a_number(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(commands.getpass, "getuser", nameless)

    centre.add("edge")

    assert f'"who":"uid {os.getuid()}"' in (centre.folder / "audit.log").read_text(encoding="utf-8")


def test_the_log_is_checked(centre: Centre) -> None:
    centre.add("edge")
    log = centre.folder / "audit.log"
    count = log.read_text(encoding="utf-8").count("\n")

    assert f"{count} lines, none altered" in centre.ok("audit", "verify")

    log.write_text(log.read_text(encoding="utf-8").replace("device added", "device adred"), encoding="utf-8")
    assert "audit.log, line" in centre.refused("audit", "verify")


# From outside


@pytest.mark.services
def test_the_whole_story_from_a_shell(tmp_path: Path) -> None:
    def shell(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "vitalloom", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "VITALLOOM_SITE": str(tmp_path / "site")},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shell("pki", "init")
    device = Invitation.parse(shell("registry", "add", "wearable", "--quiet")).device_id.hex()
    shell("pki", "revoke", device, "--why", "lost")

    assert f"│ {device} │ wearable │" in shell("pki", "show")


# broker


def test_the_broker_s_files_lie_in_the_site_or_wherever_they_were_sent_once(centre: Centre, tmp_path: Path) -> None:
    centre.ok("broker", "write")
    assert (centre.folder / "broker" / "mosquitto.conf").exists()

    elsewhere = tmp_path / "elsewhere"
    centre.ok("broker", "write", "--folder", elsewhere)
    before = (elsewhere / "acl").read_text()
    wearable, edge = (centre.add(role).device_id.hex() for role in ("wearable", "edge"))
    bind(centre, wearable, edge)

    assert f"cafile {elsewhere / 'clients.crt'}" in (elsewhere / "mosquitto.conf").read_text()
    assert wearable not in before
    assert wearable in (elsewhere / "acl").read_text()  # the folder in use is updated
    assert f"mosquitto -c {elsewhere / 'mosquitto.conf'}" in centre.ok("broker", "write")

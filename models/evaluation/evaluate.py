"""The commands `vitalloom evaluate` and `vitalloom release`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from models import passport as passports
from models.artifacts import GRAPH, WEIGHTS, load
from models.errors import BadRun
from models.evaluation import heart, rhythm, sepsis
from models.evaluation.report import EvaluationReport, markdown, write
from models.heart_features import Form
from models.passport import Interval
from models.recordings import file_of


def evaluate(task: str, data: Path, work: Path, out: Path | None, *, seed: int, against: tuple[Path, ...] = ()) -> int:
    """Judge a training run; the report lies in `work/<task>/report` unless `out` says otherwise.

    Raises:
        BadRun, BadRecordings, ModelUnavailable.
    """
    file = file_of(task, data)
    if against and task != "sepsis":
        raise BadRun(work, f"--against is of sepsis, not of {task}")
    console = Console(stderr=True)
    home = work / task
    folder = out or home / "report"
    keys = (draft_key(home).public_key().public_bytes_raw().hex(),)
    with console.status(task) as status:
        if task == "sepsis":
            report = sepsis.evaluate(file, home, folder, seed=seed, keys=keys, tell=status.update, against=against)
        elif task == "rhythm":
            others = data / "mitbih" if (data / "mitbih").is_dir() else None
            report = rhythm.evaluate(file, home, folder, seed=seed, keys=keys, tell=status.update, mitbih=others)
        else:
            form = Form.CLINIC if task == "heart" else Form.HOME
            report = heart.evaluate(form, file, home, folder, seed=seed, keys=keys, tell=status.update)
    write(report, folder)
    console.print(markdown(report), markup=False, highlight=False)
    return 0


def release(task: str, work: Path, into: Path, *, version: str, key: Path) -> int:
    """Put the final model of a run into a folder of released models: files, passport with figures, card, plots.

    Raises:
        BadRun: it was not evaluated, or there is no key.
        ModelUnavailable: its files are not what the run has made.
    """
    home = work / task
    try:
        report = msgspec.json.decode((home / "report" / "report.json").read_bytes(), type=EvaluationReport)
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key.read_text().strip()))
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BadRun(home, f"evaluate it first, and name a key of 32 bytes in hex ({error})") from error
    draft = load(home / "all" / task, trusted=(draft_key(home).public_key().public_bytes_raw().hex(),))
    passports.number_of(version)
    final = msgspec.structs.replace(
        draft.passport, version=version, threshold=report.threshold, budgets=report.budgets, metrics=report.headline,
        parity=report.parity,
    )  # fmt: skip
    folder = into / task
    folder.mkdir(parents=True, exist_ok=True)
    for name in (GRAPH, WEIGHTS):
        if name in draft.files:
            (folder / name).write_bytes(draft.files[name])
    for plot in report.plots:
        (folder / plot).write_bytes((home / "report" / plot).read_bytes())
    signed = passports.signed(final, private)
    (folder / passports.FILE).write_bytes(passports.encode(signed))
    (folder / "card.md").write_text(card(signed, report, draft.files), encoding="utf-8")
    Console(stderr=True).print(f"{task} {version}: {folder}, signed by {signed.key}")
    return 0


def card(passport: passports.Passport, report: EvaluationReport, files: Mapping[str, bytes]) -> str:
    """What people read: what it is, what it may be used for, and how good it was."""
    tried = Path(__file__).parent / "tried" / f"{passport.name}.md"
    sizes = ", ".join(f"{name} {len(content) / 1000:.0f} kB" for name, content in files.items())
    lines = [
        f"# {passport.name} {passport.version}",
        "",
        f"{passport.does[0].upper()}{passport.does[1:]}. Decision support; not a certified medical device.",
        "",
        f"- made by: `{passport.made_by}`, evaluated by `{report.command}`, both with the options for data and folders",
        f"- {passport.parameters:,} weights, int8 with a scale for each row; {sizes}",
        *(f"- learned from: {one.name}, {one.rows}; {one.licence}; {one.citation}" for one in passport.trained_on),
        f"- speaks from a score of {passport.threshold:.4f} on",
        *(f"- {limit}" for limit in passport.limits),
        *(f"- {name}: {_interval(found)}" for name, found in passport.metrics.items()),
        *(f"- {name}: {found:+.5f}" for name, found in passport.parity.items()),
        *(f"- SHA-256 of {name}: {hashlib.sha256(content).hexdigest()}" for name, content in files.items()),
        "",
        *(["## What was tried", "", tried.read_text(encoding="utf-8").strip(), ""] if tried.is_file() else []),
    ]
    return "\n".join(lines) + "\n" + markdown(report).replace("\n## ", "\n### ").replace("# ", "## ", 1)


def draft_key(home: Path) -> Ed25519PrivateKey:
    """The key with which a run has signed its drafts.

    Raises:
        BadRun: nothing was trained there.
    """
    try:
        return Ed25519PrivateKey.from_private_bytes((home / "draft.key").read_bytes())
    except OSError as error:
        raise BadRun(home, "nothing was trained there; run `vitalloom train` first") from error


def _interval(found: Interval) -> str:
    return f"{found.value:.3f}" + ("" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]")

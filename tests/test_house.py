"""The house itself: what a wheel holds, what an import pulls in, what the front door says."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runtime.version import __version__
from tests import structure

pytestmark = pytest.mark.services

ROOT = Path(__file__).parent.parent
ROOMS = {"vitals", "wire", "runtime", "models", "edge", "stream", "simulators", "dashboards", "deploy"}
COMMANDS = (
    "ward", "edge", "score", "enrol", "stream", "ingest", "worker", "wearable", "pki", "registry", "broker", "audit",
    "topics", "store", "desk", "alarms", "observe", "dashboards", "site", "doctor", "health", "predict",
    "train", "evaluate", "release",
)  # fmt: skip
HEAVY = ("torch", "faust", "aiokafka", "pandas", "scipy", "pyarrow", "cryptography", "numpy")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _vitalloom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitalloom", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_the_rooms_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == ROOMS | {"vitalloom.py"}
    assert "edge/sample.toml" in names
    assert {f"{room}/py.typed" for room in ROOMS} <= set(names)
    assert not [name for name in names if name.endswith((".parquet", ".csv", ".sqlite"))]


def test_help_loads_no_heavy_library() -> None:
    loaded = _python(
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "import vitalloom\n"
        "result = CliRunner().invoke(vitalloom.command_line(), ['--help'])\n"
        "assert result.exit_code == 0\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    ).split()

    assert set(loaded).isdisjoint(HEAVY)
    assert set(loaded).isdisjoint(ROOMS - {"runtime"})


def test_the_edge_agent_needs_no_cluster_library() -> None:
    loaded = _python(
        "import sys, edge.process, wire.enrol.client\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    ).split()

    assert set(loaded).isdisjoint({"torch", "faust", "aiokafka", "pandas", "pyarrow", "stream", "simulators"})
    assert set(loaded).isdisjoint({"starlette", "uvicorn", "segno"})  # what serves others is the data centre's


def test_help_names_every_command_and_says_what_this_is_not() -> None:
    text = _vitalloom("--help").stdout

    for name in COMMANDS:
        assert re.search(rf"^\s+{name}\s", text, re.MULTILINE), name
    assert "Not a certified medical device" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = _vitalloom(command, "--help")

    assert done.returncode == 0
    assert "--help" in done.stdout


def test_a_missing_extra_says_how_to_get_it() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys; sys.modules['pyarrow'] = None; sys.argv = ['vitalloom', 'ward', '--duration', '1s']; "
                "import vitalloom; vitalloom.main()"
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'vitalloom[simulators]'" in done.stderr


def test_a_foreseen_error_is_a_sentence_and_not_a_trace(tmp_path: Path) -> None:
    typo = tmp_path / "edge.toml"
    typo.write_text("[broker]\nprot = 1\n", encoding="utf-8")

    done = _vitalloom("edge", "--config", str(typo), "--check-config")

    assert done.returncode == 2
    assert "prot" in done.stderr
    assert "$.broker" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_version_everywhere() -> None:
    said = _vitalloom("--version").stdout.strip()

    assert said == f"vitalloom {__version__}"
    assert f"## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


LONG_BUT_TABLES = {"deploy/description.py: processes"}


def test_no_function_is_too_long_to_read() -> None:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]

    found = {one.name for path in paths for one in structure.functions(path) if one.size > 60}

    assert found == LONG_BUT_TABLES


def test_no_class_does_the_work_of_a_department() -> None:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]

    found = {one.name for path in paths for one in structure.classes(path) if one.size > 30}

    assert found == set()


def test_a_class_name_has_one_meaning() -> None:
    found: dict[str, list[str]] = {}
    for room in sorted(ROOMS):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name.lstrip("_"), []).append(f"{path.relative_to(ROOT)}")

    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_no_folder_has_a_circle_of_imports() -> None:
    assert [one.circles for one in structure.folders() if one.circles] == []


EVERYWHERE = {"__init__", "commands", "errors", "health", "process"}
"""Modules that mean the same in every folder."""


@pytest.mark.parametrize("readme", sorted(ROOT.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_the_readme_of_a_room_names_its_modules_and_no_others(readme: Path) -> None:
    room = readme.parent
    rows = re.findall(r"^\| (`.+?) \|", readme.read_text(encoding="utf-8"), re.MULTILINE)
    named = {
        name.rstrip("/").removesuffix(".py").split("/")[-1] for row in rows for name in re.findall(r"`([^`]+)`", row)
    }

    modules = {path.stem for path in room.rglob("*.py")}
    folders = {path.name for path in room.rglob("*") if path.is_dir()}
    files = {path.name for path in room.rglob("*") if path.is_file()}

    assert named - modules - folders - files == set()
    assert modules - named - EVERYWHERE == set()


def test_files_that_documents_name_exist() -> None:
    path = re.compile(rf"`((?:tests|docs|benchmarks|{'|'.join(ROOMS)})/[\w./-]+\.(?:py|md|toml|sh|yaml|json))`")
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]

    named = {name for one in documents if one.name != "CHANGELOG.md" for name in path.findall(one.read_text("utf-8"))}

    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()

"""What the page for installers and the Dockerfile say holds for the tree as it is. Neither was run on a Pi."""

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest

from edge.bedside.signals import HIGH, MEDIUM, SHOWN, Condition
from edge.setup import plan
from runtime.version import __version__

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "edge-install.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "edge" / "Dockerfile").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("$ ")]


def test_the_image_takes_the_wheel_that_the_page_makes_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    (made,) = set(re.findall(r"dist/vitalloom-[\d.]+-py3-none-any\.whl", PAGE))

    assert [fnmatch(made, pattern) for pattern in copied] == [True]
    assert "python -m build --wheel" in PAGE
    assert "python -m build --wheel" in DOCKERFILE
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^COPY --from=(\w+)", DOCKERFILE, re.MULTILINE)) == set(stages)


def test_image_and_page_install_from_wheels_alone_and_the_same_extra() -> None:
    (image,) = re.findall(r"pip install .*--only-binary :all:.*\[(\w+)\]", DOCKERFILE)
    page = [one for one in commands(PAGE) if "install" in one and any(word.endswith("]") for word in one)]

    assert page
    for one in page:
        assert one[one.index("--only-binary") + 1] == ":all:"
        assert re.fullmatch(r"\./vitalloom-[\d.]+-py3-none-any\.whl\[(edge|pi)\]", one[-1])
    assert page[0][-1].endswith(f"[{image}]")
    assert f"vitalloom-{__version__}-py3" in page[0][-1]


def test_the_image_runs_as_nobody_in_particular_and_asks_for_progress() -> None:
    assert "USER 65532:65532" in DOCKERFILE
    assert "--is-alive" in DOCKERFILE
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert "RUN " not in final  # there is no shell to run it
    assert "python3" in final.splitlines()[0]


@pytest.mark.parametrize("document", [PAGE, DOCKERFILE])
def test_what_was_not_tried_is_said(document: str) -> None:
    assert re.search(r"was never built|No Raspberry Pi was at hand", document)


@pytest.mark.parametrize("what", Condition)
def test_the_page_says_what_every_light_and_sound_means(what: Condition) -> None:
    shown = SHOWN[what]
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and f"| {what.value} |" in line]

    assert len(rows) == 1, what
    assert shown.lamp in rows[0]
    assert ("flashing" in rows[0]) == bool(shown.period_ms)
    for tone, word in ((HIGH, "ten pulses"), (MEDIUM, "three pulses")):
        assert (word in rows[0]) == (shown.tone is tone)


def test_the_page_lists_every_file_that_setup_writes(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text("gpio:x:1:\n", encoding="utf-8")

    for wanted in plan(tmp_path, Path("/opt/vitalloom/current/bin/vitalloom")).files:
        assert f"`/{wanted.path}`" in PAGE, wanted.path

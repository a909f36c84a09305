"""`.dockerignore` sends the engine what the Dockerfiles copy, and nothing else."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.version import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("Dockerfile", "edge/Dockerfile")
RULES = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
WHEEL = f"dist/vitalloom-{__version__}-py3-none-any.whl"


def is_ignored(path: str, rules: Sequence[str]) -> bool:
    """Whether Docker leaves a path out: the last rule that matches it, or a folder above it, decides."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    ignored = False
    for rule in rules:
        text = rule.strip()
        if not text or text.startswith("#"):
            continue
        wanted = text.startswith("!")
        pattern = expression(text.removeprefix("!").strip("/"))
        if any(pattern.fullmatch(one) for one in above):
            ignored = not wanted
    return ignored


def expression(rule: str) -> re.Pattern[str]:
    """A rule as a regular expression: `**` is any number of folders, `*` and `?` stay within one name."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(tokens.get(one) or re.escape(one) for one in re.split(r"(\*\*/|\*\*|\*|\?)", rule) if one)
    )


def sources(dockerfile: str) -> list[str]:
    """What COPY takes from the context."""
    text = (ROOT / dockerfile).read_text(encoding="utf-8").replace("\\\n", " ")
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith(("COPY ", "ADD ")) and "--from=" not in line:
            words = [word for word in shlex.split(line)[1:] if not word.startswith("--")]
            found += words[:-1]
    return found


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        (["*"], "a", True),
        (["*"], "a/b/c", True),
        (["*", "!a"], "a/b/c", False),
        (["*", "!a/b"], "a/c", True),
        (["*", "!a/b-*.whl"], "a/b-1.whl", False),
        (["*", "!a/b-*.whl"], "a/b-1/c.whl", True),
        (["!a", "*"], "a", True),
        (["*", "!a", "**/*.pyc"], "a/b/c.pyc", True),
        (["**/*.pyc"], "c.pyc", True),
        (["# a", "", "b/"], "b/c", True),
        (["a/?"], "a/b", True),
        (["a"], "b/a", False),
    ],
)
def test_rules_match_like_those_of_docker(rules: list[str], path: str, ignored: bool) -> None:
    assert is_ignored(path, rules) == ignored


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_copied_files_are_not_ignored(dockerfile: str) -> None:
    copied = sources(dockerfile)

    assert copied
    for source in copied:
        # The wheel is made before the image is built: it is in no clone.
        paths = [WHEEL] if expression(source).fullmatch(WHEEL) else [source]
        paths += [path.relative_to(ROOT).as_posix() for path in (ROOT / source).rglob("*.py")]
        assert paths == [WHEEL] or (ROOT / source).exists(), source
        assert [path for path in paths if is_ignored(path, RULES)] == [], source


def test_every_dockerfile_is_tested() -> None:
    found = [*ROOT.glob("Dockerfile"), *ROOT.glob("*/Dockerfile")]

    assert sorted(path.relative_to(ROOT).as_posix() for path in found) == sorted(DOCKERFILES)


def test_files_that_are_not_copied_are_ignored() -> None:
    let_in = {rule[1:] for rule in RULES if rule.startswith("!")}

    assert "*" in RULES
    assert let_in == {source for one in DOCKERFILES for source in sources(one)}


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "site/secrets/writer.token",
        "site/ca/root.key",
        "tests/conftest.py",
        "dist/vitalloom-0.1.0.tar.gz",
        "models/training/data/sepsis2019/setB_dev.parquet",
        "vitals/__pycache__/news2.cpython-313.pyc",
    ],
)
def test_keys_caches_and_data_are_ignored(path: str) -> None:
    assert is_ignored(path, RULES)

"""docs/security.md lists forty attacks: each has a test, or the table says what is missing."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py")))


def numbers(text: str) -> set[str]:
    return {number.lower() for row in re.findall(r"^\| ([A\d ]+) \|", text, re.MULTILINE) for number in row.split()}


def test_every_attack_that_held_is_a_test_and_every_test_is_in_the_table() -> None:
    tried, _ = DOCUMENT.split("## Not reached")
    named = {number for name in re.findall(r"def test_((?:a\d\d_)+)", TESTS) for number in name.strip("_").split("_")}

    assert numbers(tried) == named


def test_all_forty_are_accounted_for_once() -> None:
    tried, rest = DOCUMENT.split("## Not reached")

    assert numbers(tried) | numbers(rest) == {f"a{n:02d}" for n in range(1, 41)}
    assert not numbers(tried) & numbers(rest)

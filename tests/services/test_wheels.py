"""The emulated Pi runs what a Pi would install: its list of wheels fits the project's own requirements."""

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.footprint import PINS
from tests.services.wheels import requirements


def pinned() -> dict[str, Requirement]:
    lines = [line for line in PINS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


def test_every_requirement_of_the_edge_is_pinned_within_its_range() -> None:
    found = pinned()

    for wanted in requirements("edge"):
        version = str(found[canonicalize_name(wanted.name)].specifier).removeprefix("==")
        assert wanted.specifier.contains(version), wanted


def test_the_edge_stays_small() -> None:
    # Each of these would add more than all that is ours; rhythm, which needs scipy, judges no stream of an edge.
    assert set(pinned()).isdisjoint({"scipy", "torch", "pyarrow", "pandas", "gpiozero", "lgpio"})


def test_pins_of_a_pi_s_header_depend_on_its_python() -> None:
    named = {python: {one.name for one in requirements("pi", python)} for python in ("3.11", "3.12", "3.13")}

    assert "lgpio" in named["3.11"] & named["3.12"]
    assert "lgpio" not in named["3.13"]
    assert "adafruit-lgpio" in named["3.13"]
    assert all({"gpiozero", "cryptography", "numpy"} <= one for one in named.values())

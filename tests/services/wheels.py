"""Whether everything that a Pi installs comes as a wheel: `python -m tests.services.wheels`, or `make wheels`.

It asks the package index what `pip` would install on Raspberry Pi OS (64-bit), for every CPython that is supported,
and downloads nothing but metadata. An answer without a wheel is an error: a Pi has no compiler to spare.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
PYTHONS: Final = ("3.11", "3.12", "3.13")
EXTRAS: Final = ("edge", "pi")
WITHIN_S: Final = 120
GLIBC: Final = 36
"""2.36: of Debian 12 and Raspberry Pi OS 12. pip matches a tag exactly when it installs for elsewhere."""


class Wheel(NamedTuple):
    """What pip would take."""

    name: str
    version: str
    file: str

    @property
    def is_for_any_machine(self) -> bool:
        return self.file.endswith("-any.whl")


def platforms() -> list[str]:
    return [f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC + 1)] + ["manylinux2014_aarch64"]


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


def requirements(extra: str, python: str = "3.11") -> list[Requirement]:
    """Those of the project and of an extra, as they hold on a Pi; extras that it names are followed."""
    facts = project()
    listed = [*facts["dependencies"], *facts["optional-dependencies"][extra]]
    found: dict[str, Requirement] = {}
    for one in map(Requirement, listed):
        if one.name == "vitalloom":
            for inner in one.extras:
                found |= {inside.name: inside for inside in requirements(inner, python)}
        elif one.marker is None or _holds(one.marker, python):
            found[one.name] = one
    return list(found.values())


def _holds(marker: Marker, python: str) -> bool:
    return marker.evaluate(
        {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux", "extra": ""}
    )


def resolved(extra: str, python: str) -> list[Wheel]:
    """What pip would install on a Pi with this CPython. Raises LookupError where something has no wheel."""
    wanted = [f"{one.name}{one.specifier}" for one in requirements(extra, python)]
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-",
            "--target", "nowhere", "--only-binary=:all:", "--implementation", "cp", "--python-version", python,
            *(word for one in platforms() for word in ("--platform", one)), *wanted,
            # pip holds `Requires-Python` against the Python that runs it; for another one the wheels' tags decide.
            *([] if _is_here(python) else ["--ignore-requires-python"]),
        ],
        capture_output=True, text=True, check=False, timeout=WITHIN_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise LookupError(f"CPython {python}, {extra}: {done.stderr.strip().splitlines()[-1]}")
    return [
        Wheel(canonicalize_name(one["metadata"]["name"]), one["metadata"]["version"], _file(one))
        for one in json.loads(done.stdout)["install"]
    ]


def _is_here(python: str) -> bool:
    return python == f"{sys.version_info.major}.{sys.version_info.minor}"


def _file(one: dict[str, Any]) -> str:
    return str(one["download_info"]["url"]).rpartition("/")[2]


def pins(found: Iterable[Wheel]) -> str:
    """For `pi_server/requirements.txt`."""
    head = "# What `vitalloom[edge]` resolves to for CPython 3.11 on aarch64: python -m tests.services.wheels --pins\n"
    return head + "".join(f"{one.name}=={one.version}\n" for one in sorted(found))


def main(arguments: Sequence[str]) -> int:
    """Print a table for people, or the pins."""
    if "--pins" in arguments:
        sys.stdout.write(pins(resolved("edge", "3.11")))
        return 0
    failed = False
    for extra in EXTRAS:
        for python in PYTHONS:
            try:
                found = resolved(extra, python)
            except LookupError as error:
                failed = True
                sys.stdout.write(f"{error}\n")
                continue
            built = sorted(f"{one.name} {one.version}" for one in found if not one.is_for_any_machine)
            sys.stdout.write(
                f"CPython {python}, vitalloom[{extra}]: {len(found)} wheels, none to build; "
                f"for aarch64: {', '.join(built)}\n"
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

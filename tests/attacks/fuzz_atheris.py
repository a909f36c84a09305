"""A search for crashes that is guided by coverage; by hand, for as long as one likes.

    pip install atheris
    mkdir work
    python -m tests.attacks.fuzz_atheris work tests/attacks/corpus -max_total_time=600 -max_len=2000

libFuzzer's options and its way of speaking. The first byte of an input names the door. What it keeps goes to `work`,
and from there by hand to `tests/attacks/corpus`; `tests/attacks/test_fuzz.py` takes every input of the corpus again.
"""

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found,unused-ignore]

with atheris.instrument_imports(include=["wire", "stream.ingest.frames", "stream.http"]):
    from tests.attacks.fuzzing import Doors


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        doors = Doors(Path(folder) / "site")
        # Keys are drawn anew by every run, and what begins from its own seeds gets past the seals.
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for index, target in enumerate(doors.targets.values()):
            for number, seed in enumerate(target.seeds):
                (seeds / f"{index}-{number}").write_bytes(bytes([index]) + seed)
        atheris.Setup([*sys.argv, str(seeds)], lambda data: doors.enter(data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

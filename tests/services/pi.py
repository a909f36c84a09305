"""A Raspberry Pi that is emulated, one process at a time: the arm64 Python and the wheels of `install.sh pi`.

The processor is emulated, the kernel, the clock and the network are this machine's. So it shows whether the code runs
there and what it computes, and nothing about how fast.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.services.native import installed

ROOT: Final = Path(__file__).parents[2]
CPUS: Final = {
    "cortex-a53": "Pi 3, Zero 2 W",
    "cortex-a72": "Pi 4",
    "cortex-a76": "Pi 5",
}


class EmulatedPi:
    """One processor. QEMU_CPU is always named: without it instructions that a Pi lacks would go unseen."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        self._home = installed("pi")

    def command(self, *arguments: str) -> list[str]:
        """Python with these arguments, on that processor."""
        return [
            str(self._home / "qemu-aarch64-static"),
            str(self._home / "root" / "usr" / "bin" / "python3.11"),
            *arguments,
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        # Not the environment of the tests: their virtual environment is for another processor.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
        return kept | {
            "QEMU_LD_PREFIX": str(self._home / "root"),
            "QEMU_CPU": self.cpu,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self._home / 'site'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str, cwd: Path, within_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment, cwd=cwd, capture_output=True, text=True, check=False,
            timeout=within_s,
        )  # fmt: skip

    def start(self, *arguments: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(*arguments), env=self.environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def here(*arguments: str, cwd: Path) -> str:
    """The same on this machine's own processor; what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout

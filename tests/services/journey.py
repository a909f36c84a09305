"""A document's commands, run as somebody would type them: those of a process in the background, the others in turn."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.patience import PATIENCE_S

BLOCK = re.compile(r"^```sh( service)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]


class Block:
    """One fenced block of shell."""

    def __init__(self, text: str, *, is_service: bool) -> None:
        self.text = text
        self.is_service = is_service


def blocks(document: str, heading: str) -> list[Block]:
    """The shell of one section, in order."""
    _, found = document.split(f"\n## {heading}\n", 1)
    section = found.split("\n## ", 1)[0]
    return [Block(text, is_service=bool(service)) for service, text in BLOCK.findall(section)]


class Journey:
    """A folder, a shell, and processes that end with it.

    Args:
        instead: words of the document and what stands in their place: ports are drawn.
    """

    def __init__(self, folder: Path, instead: Mapping[str, str]) -> None:
        self.folder = folder
        self._instead = instead
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        shims = folder / ".bin"
        shims.mkdir()
        shim = shims / "vitalloom"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vitalloom "$@"\n', encoding="utf-8")
        shim.chmod(0o755)
        path = f"{shims}:{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
        # What processes leave in memory (keys of states, status) goes with the folder.
        memory = folder / ".memory"
        memory.mkdir(mode=0o700)
        self._environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(memory)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def take(self, block: Block) -> str:
        """What the commands of a block say; a service says it to its log."""
        if block.is_service:
            self._start(block.text)
            return ""
        text = block.text
        for word, other in self._instead.items():
            text = text.replace(word, other)
        done = subprocess.run(
            ["bash", "-euc", text], cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _start(self, command: str) -> None:
        name = command.strip()
        with (self.folder / f"{len(self._processes)}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                ["bash", "-c", f"exec {name}"], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def said(self, command: str) -> str:
        """The log of a service, by the beginning of its command."""
        (index,) = [n for n, name in enumerate(self._processes) if name.startswith(command)]
        return (self.folder / f"{index}.log").read_text(encoding="utf-8", errors="replace")

    def ended(self) -> list[str]:
        """Services that are no longer there."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def until(self, condition: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> float:
        """Wait for something; how long it took."""
        began = time.monotonic()
        while not condition():
            waited = time.monotonic() - began
            gone = self.ended()
            assert not gone, f"while waiting for {what}: {gone} ended: {[self.said(name)[-2_000:] for name in gone]}"
            assert waited < within_s, f"{what}: not within {within_s} s"
            time.sleep(0.05)
        return time.monotonic() - began

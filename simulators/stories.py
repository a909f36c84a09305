"""What happens to the patients of a ward, as readings in order of time: simulated by a scenario, or recorded once."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from simulators.replay import Stay, open_replay
from simulators.scenarios import scenario
from simulators.wearable import Wearables, WearableSpec
from wire.codec import VitalsV1

START_MS: Final = 1_767_600_000_000
"""Every ward begins on 5 January 2026 at 08:00 UTC, so that runs can be compared."""

SIMULATED_CADENCE_MS: Final = 5_000
RECORDED_CADENCE_MS: Final = 60_000


class Moment(NamedTuple):
    """What is measured at one moment."""

    at_ms: int
    samples: list[tuple[int, VitalsV1]]  # number of the patient, what the wearable says


class Story(Protocol):
    """All patients of a ward."""

    @property
    def title(self) -> str: ...
    @property
    def patients(self) -> int: ...
    @property
    def cadence_ms(self) -> int: ...
    @property
    def ends_ms(self) -> int | None:
        """After the last moment; None: it goes on."""
        ...

    def moments(self) -> Iterator[Moment]: ...


class Simulated:
    """Patients of `simulators.physiology`."""

    def __init__(self, name: str, *, patients: int, seed: int, cadence_ms: int) -> None:
        story = scenario(name)
        self.title = f"scenario {name}"
        self.patients = patients
        self.cadence_ms = cadence_ms
        self.ends_ms: int | None = None
        self._wearables = Wearables(
            [story] * patients, seed=seed, start_ms=START_MS, spec=WearableSpec(cadence_ms=cadence_ms)
        )

    def moments(self) -> Iterator[Moment]:
        while True:
            at_ms = self._wearables.next_ms
            read = self._wearables.read(at_ms)
            yield Moment(at_ms, [(index, sample) for index, sample in enumerate(read) if sample is not None])


class Recorded:
    """Stays of real patients, each begun a little after the one before, so that a ward's readings are spread out."""

    def __init__(self, path: Path, *, patients: int, seed: int, cadence_ms: int) -> None:
        stays = open_replay(path).stays(patients, seed)
        self.title = f"replay of {path.name}"
        self.patients = len(stays)
        self.cadence_ms = cadence_ms
        self._begun = [(START_MS + index * cadence_ms // max(len(stays), 1), stay) for index, stay in enumerate(stays)]
        self.ends_ms: int | None = max((at_ms + stay.duration_ms for at_ms, stay in self._begun), default=START_MS) + 1

    def moments(self) -> Iterator[Moment]:
        told = [self._told(index, stay, at_ms) for index, (at_ms, stay) in enumerate(self._begun)]
        for at_ms, these in groupby(merge(*told, key=lambda one: one[:2]), key=lambda one: one[0]):
            yield Moment(at_ms, [(index, sample) for _, index, sample in these])

    def _told(self, index: int, stay: Stay, start_ms: int) -> Iterator[tuple[int, int, VitalsV1]]:
        for sample in stay.samples(self.cadence_ms, start_ms):
            yield sample.t_ms, index, sample

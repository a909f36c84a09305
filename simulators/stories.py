"""The readings of all patients of a ward in order of time, simulated by a scenario or recorded."""

import random
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from models.patient_files.recorded_stays import RecordedStay, open_replay
from models.patient_files.report import FileReport
from simulators.scenarios import scenario
from simulators.wearable import DEFAULT_SPEC, DEVICES, Body, WearableKind, Wearables, WearableSpec, measured_by
from wire.codec import VitalsV1
from wire.identity import About

START_MS: Final = 1_767_600_000_000
"""Every ward begins on 5 January 2026 at 08:00 UTC, so that runs can be compared."""

SIMULATED_CADENCE_MS: Final = 5_000
RECORDED_CADENCE_MS: Final = 60_000
_ASKED_ABOUT_PAIN: Final = 4  # every fourth patient


class Moment(NamedTuple):
    """All readings of one moment."""

    at_ms: int
    samples: list[tuple[int, VitalsV1]]  # number of the device, and its reading


class StoryDevice(NamedTuple):
    """One device of a ward."""

    patient: int  # number of the patient who wears it
    kind: WearableKind
    number: int = 0  # of the device on its patient


class Story(Protocol):
    """All patients of a ward."""

    @property
    def title(self) -> str: ...
    @property
    def patients(self) -> int: ...
    @property
    def devices(self) -> Sequence[StoryDevice]:
        """Every device, in the order of their numbers."""
        ...

    @property
    def cadence_ms(self) -> int: ...
    @property
    def ends_ms(self) -> int | None:
        """After the last moment; None: the story has no end."""
        ...

    @property
    def report(self) -> FileReport | None:
        """What was found in the file of a recorded story; None: there is no file."""
        ...

    def about(self, patient: int) -> About:
        """Facts about a patient beside vital signs: age, sex, chest pain."""
        ...

    def body(self, patient: int) -> Body | None:
        """What a person at the bed can see and measure as of the last moment; None: only what was recorded is known."""
        ...

    def moments(self) -> Iterator[Moment]: ...


class Simulated:
    """Patients of `simulators.physiology`.

    Args:
        later_ms: how much of the beginning of the story is left out. It has no effect on `mixed`, which consists of
            other scenarios.
        devices: how many devices each patient wears, in turn; see `simulators.wearable.DEVICES`.
        has_rounds: people enter consciousness and oxygen; otherwise the wearables send them, as entered at the device.
    """

    def __init__(
        self,
        name: str,
        *,
        patients: int,
        seed: int,
        cadence_ms: int,
        later_ms: int = 0,
        cuff_ms: int = DEFAULT_SPEC.cuff_ms,
        has_rounds: bool = False,
        devices: Sequence[int] = (1,),
    ) -> None:
        story = scenario(name).later(later_ms)
        self.title = f"scenario {name}"
        self.report: FileReport | None = None
        self.patients = patients
        self.cadence_ms = cadence_ms
        self._seed = seed
        self.ends_ms: int | None = None
        spec = WearableSpec(
            cadence_ms=cadence_ms, cuff_ms=cuff_ms, round_ms=None if has_rounds else DEFAULT_SPEC.round_ms
        )
        self.devices = tuple(
            StoryDevice(patient, kind, number)
            for patient in range(patients)
            for number, kind in enumerate(DEVICES[devices[patient % len(devices)]])
        )
        self._wearables = Wearables([story] * patients, seed=seed, start_ms=START_MS, spec=spec)
        most = max(one.number for one in self.devices) + 1
        self._by_number = [self._wearables] + [
            Wearables([story] * patients, seed=seed, start_ms=START_MS, spec=spec, on=self._wearables, number=number)
            for number in range(1, most)
        ]

    def about(self, patient: int) -> About:
        drawn = random.Random(f"{self._seed} about {patient}")
        is_male = drawn.random() < 0.5
        return About(
            age_years=float(self._wearables.cohort.age_years[patient]),
            is_male=is_male,
            is_pregnant=False,
            # The heart model is run only for patients with an entry about chest pain.
            chest_pain=drawn.randint(1, 4) if patient % _ASKED_ABOUT_PAIN == 0 else None,
        )

    def body(self, patient: int) -> Body | None:
        return self._wearables.body(patient)

    def moments(self) -> Iterator[Moment]:
        while True:
            at_ms = self._wearables.next_ms
            read = [wearables.read(at_ms) for wearables in self._by_number]
            samples = ((index, one.kind, read[one.number][one.patient]) for index, one in enumerate(self.devices))
            sent = ((index, sample and measured_by(kind, sample)) for index, kind, sample in samples)
            yield Moment(at_ms, [(index, sample) for index, sample in sent if sample is not None])


class Recorded:
    """Stays of real patients, each begun a little after the one before, so that a ward's readings are spread out."""

    def __init__(self, path: Path, *, patients: int, seed: int, cadence_ms: int, units: Sequence[str] = ()) -> None:
        replay = open_replay(path)
        stays = replay.stays(patients, seed, units=units)
        stays = stays if any(stay.charted for stay in stays) else []
        self.report: FileReport | None = replay.report
        self.title = f"replay of {path.name}"
        self.patients = len(stays)
        self.devices = tuple(StoryDevice(patient, WearableKind.MONITOR) for patient in range(self.patients))
        self.cadence_ms = cadence_ms
        self._starts = [(START_MS + index * cadence_ms // max(len(stays), 1), stay) for index, stay in enumerate(stays)]
        self.ends_ms: int | None = max((at_ms + stay.duration_ms for at_ms, stay in self._starts), default=START_MS) + 1

    def about(self, patient: int) -> About:
        _, stay = self._starts[patient]
        return About(age_years=stay.age_years, is_male=stay.is_male)

    def body(self, patient: int) -> Body | None:  # noqa: ARG002 - of no patient
        return None

    def moments(self) -> Iterator[Moment]:
        streams = [self._samples(index, stay, at_ms) for index, (at_ms, stay) in enumerate(self._starts)]
        for at_ms, these in groupby(merge(*streams, key=lambda one: one[:2]), key=lambda one: one[0]):
            yield Moment(at_ms, [(index, sample) for _, index, sample in these])

    def _samples(self, index: int, stay: RecordedStay, start_ms: int) -> Iterator[tuple[int, int, VitalsV1]]:
        for sample in stay.samples(self.cadence_ms, start_ms):
            yield sample.t_ms, index, sample

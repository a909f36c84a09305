"""Files of recorded stays as a record: charted values of real patients, as readings at a cadence."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from models.patient_files.recorded_stays import RecordedStay, open_replay
from stream.what_if.record import ListedStay, StayRecord
from vitals.messages import Message
from vitals.plan import EXPECTED
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

START_MS: Final = 1_790_000_000_000
"""Every recorded stay begins here: the data sets have no dates."""

LIMITS: Final = ("Recorded stays have no stored alarms to compare with, nobody answered, and no date.",)


class StaysSource(msgspec.Struct, frozen=True):
    """A file or a folder of recorded stays."""

    path: Path
    cadence_ms: int = 60_000
    limit: int | None = None  # so many, chosen by the seed; None: all
    seed: int = 1

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def limits(self) -> tuple[str, ...]:
        return LIMITS

    @property
    def cadences_ms(self) -> dict[str, int]:
        return {sign.value: self.cadence_ms for sign in EXPECTED}

    def open(self) -> "OpenStays":
        return OpenStays(self, open_replay(self.path).stays(self.limit, self.seed))


class OpenStays:
    """Recorded stays, read."""

    def __init__(self, source: StaysSource, stays: list[RecordedStay]) -> None:
        self._source = source
        self._stays = {stay_id_of(stay.stay_id): stay for stay in stays}

    def stays(self) -> list[ListedStay]:
        cadence_ms = self._source.cadence_ms
        return [
            ListedStay(stay_id=key, readings=stay.duration_ms // cadence_ms + 1, patient=stay.stay_id)
            for key, stay in self._stays.items()
        ]

    def read(self, stay: ListedStay) -> StayRecord:
        recorded = self._stays[stay.stay_id]
        onset_ms = recorded.onset_ms
        return StayRecord(
            messages=self._messages(stay.stay_id, recorded),
            deteriorations=() if onset_ms is None else (START_MS + onset_ms,),
        )

    def close(self) -> None:
        self._stays = {}

    def _messages(self, stay_id: str, stay: RecordedStay) -> Iterator[Message]:
        key = bytes.fromhex(stay_id)
        for counter, sample in enumerate(stay.samples(self._source.cadence_ms, START_MS)):
            yield to_reading(_arrived(sample, key, counter), key)


def stay_id_of(name: str) -> str:
    """The key of a recorded stay, from the pseudonym of its data set."""
    return hashlib.sha256(b"recorded stay" + name.encode()).hexdigest()[:32]


def _arrived(sample: VitalsV1, key: bytes, counter: int) -> EdgeVitalsV1:
    return EdgeVitalsV1(
        origin=OriginV1(wearable_id=key, session_id=key, counter=counter),
        vitals=sample,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )

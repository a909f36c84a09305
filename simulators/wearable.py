"""Wearables on simulated patients: what a device measures, and how it buffers unacknowledged readings.

A wearable adds to the body of `simulators.physiology` what devices add: noise and a bias of its own, rounding, signs
and whole readings that fail, motion and poor perfusion, lost skin contact, a battery, a clock that drifts. Sizes of
errors lie within what the standards accept: oxygen saturation 3 % (FDA 2013), cuff pressure 5 mmHg mean and 8 mmHg
deviation (ISO 81060-2), heart rate 5 /min (IEC 60601-2-27), temperature 0.3 °C (ISO 80601-2-56), breathing 2 to 3 /min.

No transport and no clock: time is an argument, and what comes out are `wire.codec.VitalsV1`, to be sealed by others;
of wearables that tell what their wearers do, `VitalsV2`.
Same seed, scenarios, start and moments: same bytes, alone or among 10,000.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from simulators import draws
from simulators.draws import Floats
from simulators.physiology import TRAINING, WALKING, Cohort, Drive, Sign
from simulators.scenarios import Scenario, Script
from vitals.messages import Activity, ClockQuality, Consciousness, SensorFlag
from wire.codec import VitalsV1, VitalsV2

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

Booleans = npt.NDArray[np.bool_]


class WearableSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The type of a wearable; the defaults make a ward device with its own cuff."""

    cadence_ms: int = 5_000  # of readings: heart rate, respiratory rate and SpO2 are in each
    temperature_ms: int = 60_000
    cuff_ms: int = 15 * 60_000
    # A nurse enters consciousness and oxygen at the device; the first round is at the start. None: they are not entered
    # there, but by people at the desk.
    round_ms: int | None = 4 * _HOUR_MS
    lost_share: float = 0.002  # of readings that fail as a whole
    missing_share: float = 0.01  # of values that fail alone
    battery_hours: float = 48.0
    battery_low: float = 15.0  # %: below it the wearable sets the battery-low flag
    sync_ms: int | None = _HOUR_MS  # how often the clock is set; None: never, flagged as free-running
    drift_ppm: float = 20.0  # deviation between wearables


DEFAULT_SPEC: Final = WearableSpec()


class WearableKind(StrEnum):
    """What a device measures. The value is what people call it."""

    MONITOR = "monitor"  # everything
    PATCH = "patch"
    OXIMETER = "oximeter"
    CUFF = "cuff"
    THERMOMETER = "thermometer"


_MEASURES: Final[Mapping[WearableKind, frozenset[str]]] = {
    WearableKind.PATCH: frozenset({"heart_rate", "respiratory_rate", "temperature"}),
    WearableKind.OXIMETER: frozenset({"spo2", "heart_rate"}),
    WearableKind.CUFF: frozenset({"systolic_bp", "diastolic_bp"}),
    WearableKind.THERMOMETER: frozenset({"temperature"}),
}
_ALL_MEASURES: Final = frozenset(
    {
        "heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "temperature", "supplemental_oxygen",
        "consciousness",
    }
)  # fmt: skip
_OCCASIONAL: Final = (WearableKind.CUFF, WearableKind.THERMOMETER)  # they send when they have measured, and only then

DEVICES: Final[Mapping[int, tuple[WearableKind, ...]]] = {
    1: (WearableKind.MONITOR,),
    2: (WearableKind.PATCH, WearableKind.OXIMETER),
    3: (WearableKind.PATCH, WearableKind.OXIMETER, WearableKind.CUFF),
    4: (WearableKind.PATCH, WearableKind.OXIMETER, WearableKind.CUFF, WearableKind.THERMOMETER),
    5: (
        WearableKind.PATCH, WearableKind.OXIMETER, WearableKind.CUFF, WearableKind.THERMOMETER, WearableKind.OXIMETER,
    ),
    6: (
        WearableKind.PATCH, WearableKind.OXIMETER, WearableKind.CUFF, WearableKind.THERMOMETER, WearableKind.OXIMETER,
        WearableKind.CUFF,
    ),
}  # fmt: skip
"""Which devices a patient with so many wears."""
MIXED: Final = (1, 3, 1, 2, 1, 3, 1, 6)
"""How many devices the patients of a mixed ward wear, in turn."""


def measured_by(kind: WearableKind, sample: VitalsV1) -> VitalsV1 | None:
    """What a device of this kind sends of a sample with everything; None: it has measured nothing."""
    if kind is WearableKind.MONITOR:
        return sample
    part = msgspec.structs.replace(sample, **dict.fromkeys(_ALL_MEASURES - _MEASURES[kind]))
    if kind in _OCCASIONAL and all(getattr(part, name) is None for name in _MEASURES[kind]):
        return None
    return part


ROOM_C: Final = 22.0  # temperature that a detached wearable ends up measuring
_COOLING_S: Final = 300.0
_WARMING_S: Final = 60.0
_LOW_PERFUSION_MMHG: Final = 80.0  # systolic pressure below which a finger or wrist gives little light
_NEXT_DEVICE: Final = 0xD1B54A32D192ED03  # odd, so that each device of a patient has another key
_64_BITS: Final = (1 << 64) - 1
_MOVING: Final = 0.5  # activity above which a wearable knows that it moves
_UP: Final = 0.25  # activity above which it takes its wearer to be up
_SHAKEN_WALKING: Final = 0.35  # share of the readings of a walk that motion spoils; of training
_SHAKEN_TRAINING: Final = 0.6
_JOLT: Final = 0.5  # such a reading, as a share of full activity
_UNTOLD_SHARE: Final = 0.02  # of the readings of a wearable that tells activity, those that cannot tell

# Rows of the error tables: the five signs of the body in their order, then diastolic pressure.
_DBP: Final = len(Sign)
_BIAS: Final = np.array([[0.5], [0.5], [0.7], [2.0], [0.08], [2.0]])  # deviation between wearables
_NOISE: Final = np.array([[0.9], [0.8], [0.6], [3.0], [0.04], [2.5]])  # deviation between readings
_SHAKEN: Final = np.array([[5.0], [6.0], [4.0], [2.0], [1.0], [2.0]])  # times the noise, at full activity
_SHAKEN_SPO2: Final = -3.0  # points: motion mixes venous blood into what a pulse oximeter sees


class Body(NamedTuple):
    """The true state of one patient, without the errors of a device."""

    consciousness: Consciousness
    oxygen: float  # L/min
    heart_rate: float
    respiratory_rate: float
    spo2: float
    systolic_bp: float
    temperature: float
    diastolic_bp: float


class _WearableDraw(IntEnum):
    """Purposes of random draws. Every seeded byte depends on the values, so they must never change."""

    BIAS = 200  # and the five after it
    NOISE = 210  # and the five after it
    MISSING = 220  # and the five after it
    LOST = 230
    STRAY = 240  # and the two after it
    BATTERY = 250
    BATTERY_LIFE = 251
    DRIFT = 252
    OFFSET = 253
    BOOT = 254
    PHASE = 255
    JOLT = 256
    UNTOLD = 257


class Wearables:
    """One wearable on each patient of a cohort; a single wearable is a ward of one.

    Args:
        scenarios: the story of each patient, in order of their beds.
        seed: of the ward.
        start_ms: when stories begin and the first reading is due.
        first: number of the first patient; a ward may be simulated in parts, and each part gives the same bytes.
        on: wearables of the same patients, whose bodies these measure too; None: they have bodies of their own.
        number: of the device on its patient, from 0; each has errors, battery and clock of its own. What makes a
            device fall off or run empty in a story happens to the first one.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        *,
        seed: int,
        start_ms: int,
        spec: WearableSpec = DEFAULT_SPEC,
        first: int = 0,
        on: "Wearables | None" = None,
        number: int = 0,
    ) -> None:
        self.spec = spec
        self.start_ms = start_ms
        self.next_ms = start_ms
        played = [story.for_bed(first + place) for place, story in enumerate(scenarios)]
        self.scenarios: tuple[Scenario, ...] = tuple(played)
        self._tells = np.array([story.tells_activity for story in played], dtype=np.bool_)
        self.cohort: Cohort = (
            Cohort.of(seed, len(played), at_ms=start_ms - spec.cadence_ms, first=first) if on is None else on.cohort
        )
        self._script: Script = Script(played) if on is None else on._script
        self._number = number
        self._keys = self.cohort.keys ^ np.uint64(number * _NEXT_DEVICE & _64_BITS)
        self._read_ms = start_ms - spec.cadence_ms
        self._draw_traits()

    def __len__(self) -> int:
        return len(self.cohort)

    def read(self, at_ms: int) -> list[VitalsV1 | None]:
        """The reading of every wearable at `at_ms`; `None` if its battery is flat or the measurement failed.

        Raises:
            TimeRanBackwards: `at_ms` lies before the reading before.
        """
        drives = self._script.drives(at_ms - self.start_ms)
        elapsed_s = (at_ms - self._read_ms) / 1000
        self.cohort.step(at_ms, drives)
        self._read_ms = at_ms
        if self._number:
            drives = drives.copy()
            drives[[Drive.DETACHED, Drive.DRAIN]] = 0.0
        self._advance_device(elapsed_s, drives)
        self.next_ms = at_ms + self.spec.cadence_ms
        return self._report(at_ms, drives)

    def body(self, patient: int) -> "Body":
        """What a person at the bed can see and measure of a patient, as of the last reading."""
        cohort = self.cohort
        drives = self._script.drives(cohort.at_ms - self.start_ms)[:, patient]
        return Body(
            consciousness=Consciousness(int(drives[Drive.CLOUDING])),
            oxygen=float(drives[Drive.OXYGEN]),
            **{sign.name.lower(): float(cohort.signs[sign][patient]) for sign in Sign},
            diastolic_bp=float(cohort.diastolic_bp[patient]),
        )

    def run(self, until_ms: int) -> Iterator[tuple[int, list[VitalsV1 | None]]]:
        """Readings of the whole ward at their cadence, up to but not including `until_ms`."""
        while self.next_ms < until_ms:
            at_ms = self.next_ms
            yield at_ms, self.read(at_ms)

    def _draw_traits(self) -> None:
        keys, one = self._keys, len(self.cohort)
        self._bias = _BIAS * draws.normal(keys, _rows(_WearableDraw.BIAS, 6), 0)
        self.battery: Floats = 85 + 15 * draws.uniform(keys, [_WearableDraw.BATTERY], 0)[0]
        self._battery_life_s = (
            self.spec.battery_hours * 3600 * (1 + 0.1 * draws.normal(keys, [_WearableDraw.BATTERY_LIFE], 0)[0])
        )
        self._drift = self.spec.drift_ppm * 1e-6 * draws.normal(keys, [_WearableDraw.DRIFT], 0)[0]
        self._boot_ms = (60_000 + 2 * _HOUR_MS * draws.uniform(keys, [_WearableDraw.BOOT], 0)[0]).astype(np.int64)
        self._phase = draws.uniform(keys, [_WearableDraw.PHASE], 0)[0]
        self._cooled: Floats = np.zeros(one)
        self._last_turns: dict[int, npt.NDArray[np.int64]] = {}

    def _advance_device(self, elapsed_s: float, drives: Floats) -> None:
        """Battery, and the skin thermometer of a wearable that is off or on again."""
        spent = 100 * elapsed_s / self._battery_life_s + drives[Drive.DRAIN] * elapsed_s / 3600
        self.battery = np.maximum(0.0, self.battery - spent)
        off = drives[Drive.DETACHED] > 0.5
        towards = np.where(off, 1.0, 0.0)
        kept = np.where(off, math.exp(-elapsed_s / _COOLING_S), math.exp(-elapsed_s / _WARMING_S))
        self._cooled = towards + (self._cooled - towards) * kept

    def _report(self, at_ms: int, drives: Floats) -> list[VitalsV1 | None]:
        cohort, keys = self.cohort, self._keys
        off = drives[Drive.DETACHED] > 0.5
        faint = ~off & (cohort.signs[Sign.SYSTOLIC_BP] < _LOW_PERFUSION_MMHG)

        jolted = self._jolts(at_ms, drives)
        measured = self._measured(at_ms, faint, jolted)
        measured[Sign.TEMPERATURE] -= self._cooled * (measured[Sign.TEMPERATURE] - ROOM_C)
        absent = draws.uniform(keys, _rows(_WearableDraw.MISSING, 6), at_ms) < self.spec.missing_share
        absent[[Sign.SYSTOLIC_BP, _DBP]] = False  # a cuff tries again by itself
        self._apply_stray_light(at_ms, off, measured, absent)
        absent[Sign.TEMPERATURE] |= ~self._due(Sign.TEMPERATURE, self.spec.temperature_ms, at_ms)
        cuff = self._due(Sign.SYSTOLIC_BP, self.spec.cuff_ms, at_ms)
        absent[[Sign.SYSTOLIC_BP, _DBP]] |= ~cuff | off
        rounds = self._rounds(at_ms)

        flags = self._flags(off, faint) | jolted * int(SensorFlag.MOTION)
        told = self._told(at_ms, drives)
        unlucky = draws.uniform(keys, [_WearableDraw.LOST], at_ms)[0] < self.spec.lost_share
        silent = (self.battery <= 0) | (unlucky & ~rounds)  # readings with entries of a nurse are never lost
        t_ms, uptime_ms = self._clocks(at_ms)
        quality = int(ClockQuality.FREE_RUNNING if self.spec.sync_ms is None else ClockQuality.SYNCHRONISED)
        columns = zip(
            silent.tolist(),
            t_ms.tolist(),
            uptime_ms.tolist(),
            _column(np.rint(measured[Sign.HEART_RATE]), absent[Sign.HEART_RATE]),
            _column(np.rint(measured[Sign.RESPIRATORY_RATE]), absent[Sign.RESPIRATORY_RATE]),
            _column(np.rint(measured[Sign.SPO2]), absent[Sign.SPO2]),
            _column(drives[Drive.OXYGEN], ~rounds),
            _column(np.rint(measured[Sign.SYSTOLIC_BP]), absent[Sign.SYSTOLIC_BP]),
            _column(np.rint(measured[_DBP]), absent[_DBP]),
            _column(np.rint(measured[Sign.TEMPERATURE] * 10) / 10, absent[Sign.TEMPERATURE]),
            _column(drives[Drive.CLOUDING].astype(np.int64), ~rounds),
            flags.tolist(),
            np.ceil(self.battery).tolist(),
            strict=True,
        )
        plain = [None if quiet else _reading(quality, *row) for quiet, *row in columns]
        if told is None:
            return plain
        return [
            VitalsV2(**msgspec.structs.asdict(one), activity=activity) if tells and one is not None else one
            for one, tells, activity in zip(plain, self._tells.tolist(), told, strict=True)
        ]

    def _jolts(self, at_ms: int, drives: Floats) -> Booleans:
        """Whose reading the motion of a walk or of training has spoilt."""
        exertion = drives[Drive.EXERTION]
        if not exertion.any():
            return np.zeros(len(self), dtype=np.bool_)
        share = np.select([exertion >= TRAINING, exertion >= WALKING], [_SHAKEN_TRAINING, _SHAKEN_WALKING], 0.0)
        jolted: Booleans = draws.uniform(self.cohort.keys, [_WearableDraw.JOLT], at_ms)[0] < share
        return jolted

    def _told(self, at_ms: int, drives: Floats) -> list[int] | None:
        """What each wearable takes its wearer to do; None if none of them tells."""
        if not self._tells.any():
            return None
        exertion = drives[Drive.EXERTION]
        told = np.select(
            [exertion >= TRAINING, exertion >= WALKING, self.cohort.activity > _UP],
            [int(Activity.EXERCISE), int(Activity.WALK), int(Activity.LIGHT)],
            int(Activity.REST),
        )
        untold = draws.uniform(self.cohort.keys, [_WearableDraw.UNTOLD], at_ms)[0] < _UNTOLD_SHARE
        numbers: list[int] = np.where(untold, int(Activity.UNKNOWN), told).tolist()
        return numbers

    def _flags(self, off: Booleans, faint: Booleans) -> npt.NDArray[np.int64]:
        flags: npt.NDArray[np.int64] = (
            off * int(SensorFlag.SENSOR_OFF)
            + faint * int(SensorFlag.LOW_PERFUSION)
            + (self.cohort.activity > _MOVING) * int(SensorFlag.MOTION)
            + (self.battery < self.spec.battery_low) * int(SensorFlag.BATTERY_LOW)
        )
        return flags

    def _measured(self, at_ms: int, faint: Booleans, jolted: Booleans) -> Floats:
        """The body's values with the errors of the device; rows as in the error tables."""
        cohort = self.cohort
        body = np.vstack([cohort.signs, cohort.diastolic_bp])
        shaken = np.maximum(0.0, cohort.activity - 0.3) / 0.7
        shaken = np.maximum(shaken, _JOLT * jolted)
        rough = 1 + _SHAKEN * shaken
        rough[Sign.SPO2] += 2.0 * faint
        noise = draws.normal(self._keys, _rows(_WearableDraw.NOISE, 6), at_ms)
        measured: Floats = body + self._bias + _NOISE * rough * noise
        measured[Sign.SPO2] += _SHAKEN_SPO2 * shaken
        measured[Sign.SPO2] = np.minimum(measured[Sign.SPO2], 100.0)
        return np.maximum(measured, 0.0)

    def _apply_stray_light(self, at_ms: int, off: Booleans, measured: Floats, absent: Booleans) -> None:
        """Off the skin the light sensor mostly sees nothing, now and then a pulse in the lamp above the bed."""
        if not off.any():
            return
        seen, pulse, colour = draws.uniform(self._keys, _rows(_WearableDraw.STRAY, 3), at_ms)
        measured[Sign.HEART_RATE, off] = 30 + 210 * pulse[off]
        measured[Sign.SPO2, off] = 50 + 35 * colour[off]
        measured[Sign.RESPIRATORY_RATE, off] = 2 + 58 * colour[off]
        absent[: Sign.SPO2 + 1, off] |= seen[off] > 0.25

    def _due(self, sign: Sign, period_ms: int, at_ms: int) -> Booleans:
        """Which patients' slower measurement is due: all at the start, then spread over the period."""
        phase = (self._phase * period_ms).astype(np.int64)
        turn = (at_ms - self.start_ms + phase) // period_ms
        before = self._last_turns.get(sign)  # not by period: two signs may have the same
        self._last_turns[sign] = turn
        return np.ones(len(self), dtype=np.bool_) if before is None else turn > before

    def _rounds(self, at_ms: int) -> Booleans:
        """Whether a nurse's round is due: the same answer for all patients."""
        if self.spec.round_ms is None:
            return np.zeros(len(self), dtype=np.bool_)
        turn = np.full(len(self), (at_ms - self.start_ms) // self.spec.round_ms)
        before = self._last_turns.get(-1)
        self._last_turns[-1] = turn
        return np.ones(len(self), dtype=np.bool_) if before is None else turn > before

    def _clocks(self, at_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        elapsed_ms = at_ms - self.start_ms
        if self.spec.sync_ms is None:
            offset = 60_000 * draws.normal(self._keys, [_WearableDraw.OFFSET], 0)[0]
            since_ms = elapsed_ms
        else:
            turn, since_ms = divmod(elapsed_ms, self.spec.sync_ms)
            offset = 80 * draws.normal(self._keys, [_WearableDraw.OFFSET], turn)[0]
        wall = at_ms + np.rint(offset + self._drift * since_ms).astype(np.int64)
        uptime = elapsed_ms + self._boot_ms + np.rint(self._drift * elapsed_ms).astype(np.int64)
        return wall, uptime


class StoreBuffer:
    """The buffer of one wearable for readings that no edge has acknowledged: bounded, and thinned from its oldest end.

    When it is full the oldest five minutes not yet thinned are reduced to the readings that hold the least and the
    most of each sign, or what a nurse entered, and the last one; when everything is thinned, the oldest five minutes
    go. Time is the wearable's uptime, which cannot jump.
    """

    def __init__(self, *, limit: int = _DAY_MS // DEFAULT_SPEC.cadence_ms, slot_ms: int = 300_000) -> None:
        self.limit = limit
        self.slot_ms = slot_ms
        self.thinned = 0  # readings given up inside a thinned slot
        self.shed = 0  # readings given up because even the thinned did not fit
        self._slots: OrderedDict[int, dict[int, VitalsV1]] = OrderedDict()
        self._slot_of: dict[int, int] = {}
        self._thin: set[int] = set()
        self._next = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, sample: VitalsV1) -> int:
        """Keep a sample. Returns its number, for `acknowledge`."""
        number = self._next
        self._next += 1
        slot = sample.uptime_ms // self.slot_ms
        self._slots.setdefault(slot, {})[number] = sample
        self._slot_of[number] = slot
        while len(self._slot_of) > self.limit:
            self._make_room(newest=slot)
        return number

    def acknowledge(self, numbers: Iterable[int]) -> int:
        """Free acknowledged readings; unknown numbers are ignored. Returns how many were freed."""
        return sum(self._forget(number) for number in numbers)

    def kept(self) -> Iterator[tuple[int, VitalsV1]]:
        """Everything kept, oldest first."""
        for slot in list(self._slots.values()):
            yield from list(slot.items())

    def _make_room(self, *, newest: int) -> None:
        for slot in self._slots:
            if slot in self._thin or slot == newest:
                continue
            self._thin.add(slot)
            keep = _numbers_to_keep(self._slots[slot])
            given_up = [number for number in self._slots[slot] if number not in keep]
            self.thinned += self.acknowledge(given_up)
            return
        oldest = next(iter(self._slots))
        self.shed += self.acknowledge(
            list(self._slots[oldest]) if oldest != newest else [next(iter(self._slots[oldest]))]
        )

    def _forget(self, number: int) -> bool:
        slot = self._slot_of.pop(number, None)
        if slot is None:
            return False
        del self._slots[slot][number]
        if not self._slots[slot]:
            del self._slots[slot]
            self._thin.discard(slot)
        return True


_EXTREMES: Final = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "temperature")
_ENTERED: Final = ("supplemental_oxygen", "consciousness")


def _numbers_to_keep(slot: dict[int, VitalsV1]) -> set[int]:
    """Numbers of the samples that a thinned slot must keep."""
    keep = {max(slot)}
    for sign in _EXTREMES:
        values = [(value, number) for number, sample in slot.items() if (value := getattr(sample, sign)) is not None]
        if values:
            keep |= {min(values)[1], max(values)[1]}
    for sign in _ENTERED:
        keep |= {number for number, sample in slot.items() if getattr(sample, sign) is not None}
    return keep


def _rows(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


def _reading(
    quality: int, t: int, up: int, heart: Any, breath: Any, spo2: Any, oxygen: Any, systolic: Any, diastolic: Any,
    degrees: Any, answer: Any, flag: int, charge: float,
) -> VitalsV1:  # fmt: skip
    return VitalsV1(
        t_ms=t,
        t_quality=quality,
        uptime_ms=up,
        heart_rate=heart,
        respiratory_rate=breath,
        spo2=spo2,
        supplemental_oxygen=oxygen,
        systolic_bp=systolic,
        diastolic_bp=diastolic,
        temperature=degrees,
        consciousness=answer,
        sensor_flags=flag,
        battery=charge,
    )


def _column(values: npt.NDArray[np.generic], absent: Booleans) -> list[float | None]:
    """A column of an array as Python values, `None` where it is absent."""
    if not absent.any():
        kept: list[float | None] = values.tolist()
        return kept
    if absent.all():
        return [None] * len(values)
    column: list[float | None] = values.tolist()
    for place in np.flatnonzero(absent).tolist():
        column[place] = None
    return column

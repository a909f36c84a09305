"""The bodies of a ward: five coupled vital signs of any number of patients, stepped together.

A patient is a set of first-order lags towards targets that depend on the other signs, plus slow seeded variability.
The couplings have the right direction and a published order of size; nothing here is a validated model of a patient:

- fever drives the heart (8.5 /min per °C, Karjalainen and Viitasalo 1986) and breathing (about 2 /min per °C);
- low oxygen saturation drives breathing and the heart, from 94 % downwards;
- a fall of systolic pressure below the patient's own speeds the heart up, a rise slows it less, and both fade with
  age (baroreflex);
- the day adds a rhythm to temperature, heart and pressure; short seeded bouts of activity add to all but temperature;
- exertion uses a share of the heart's reserve, from its rate at rest to 208 - 0.7 x age (Tanaka 2001): the heart
  follows within half a minute and recovers within minutes (Cole 1999), and breathing and pressure rise with it.

One patient is a cohort of one. Every draw is keyed by (patient, sign, simulated time), see `simulators.draws`, so a
patient's course depends on the key, the start, the moments asked for and the drives, never on the size of the cohort.
No I/O and no clock: time is an argument, in milliseconds since 1970 (UTC, which is also the ward's local time).
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from simulators import draws
from simulators.draws import Floats, Keys
from simulators.errors import TimeRanBackwards


class Drive(IntEnum):
    """Influences on a body or its wearable: the rows of a drives array. 0 is no influence."""

    FEVER = 0  # °C above the patient's own temperature; negative: cooling
    DESATURATION = 1  # points of SpO2 lost in the lungs on room air
    HYPOTENSION = 2  # share of the patient's own systolic pressure that is lost in spite of compensation, 0 to 1
    CHRONOTROPY = 3  # /min added to the heart by pain, drugs, catecholamines or its own rhythm
    VENTILATION = 4  # /min added to breathing by acidosis, pain or drugs
    FIBRILLATION = 5  # irregularity of the heart, 0 to 1
    ACTIVITY = 6  # restlessness beyond the patient's own bouts, 0 to 1
    CLOUDING = 7  # consciousness as `vitals.messages.Consciousness`, 0 to 4
    OXYGEN = 8  # supplemental oxygen, L/min
    DETACHED = 9  # the wearable has lost the skin, 0 or 1
    DRAIN = 10  # %/h of battery beyond ordinary use
    EXERTION = 11  # walking or training: share of the heart's reserve that it uses, 0 to 1


class Sign(IntEnum):
    """Rows of `Cohort.signs`."""

    HEART_RATE = 0
    RESPIRATORY_RATE = 1
    SPO2 = 2
    SYSTOLIC_BP = 3
    TEMPERATURE = 4


class AgeBand(msgspec.Struct, frozen=True, kw_only=True):
    """Resting values that patients of one age scatter around."""

    years: tuple[int, int]
    share: float  # of a general adult ward
    rest: tuple[float, float, float, float, float]  # in the order of `Sign`
    baroreflex: float  # /min per mmHg below the own pressure


AGE_BANDS: Final = (
    AgeBand(years=(18, 39), share=0.15, rest=(70.0, 14.5, 98.0, 118.0, 36.7), baroreflex=0.60),
    AgeBand(years=(40, 64), share=0.30, rest=(71.0, 15.0, 97.6, 125.0, 36.7), baroreflex=0.50),
    AgeBand(years=(65, 79), share=0.35, rest=(72.0, 15.4, 97.3, 131.0, 36.6), baroreflex=0.40),
    AgeBand(years=(80, 95), share=0.20, rest=(73.0, 15.8, 97.0, 135.0, 36.5), baroreflex=0.30),
)

FEVER_HEART: Final = 8.5  # /min per °C
FEVER_BREATH: Final = 2.0  # /min per °C
HYPOXIA_FROM: Final = 94.0  # % SpO2
HYPOXIA_HEART: Final = 1.5  # /min per point below
HYPOXIA_BREATH: Final = 1.0  # /min per point below
OXYGEN_RELIEF: Final = 1.5  # points of SpO2 won back per L/min, never more than was lost
EXERTION_BREATH: Final = 26.0  # /min at full exertion
EXERTION_PRESSURE: Final = 50.0  # mmHg at full exertion
EXERTION_SPO2: Final = -1.0  # points at full exertion
WALKING: Final = 0.15  # exertion from which a body walks
TRAINING: Final = 0.55  # exertion from which it trains

_DAY_MS: Final = 86_400_000
_BOUT_MS: Final = 600_000

# One row per sign, in the order of `Sign`.
_SPREAD: Final = np.array([[4.5], [0.9], [0.45], [7.0], [0.12]])  # deviation between patients of one age band
_LAG_S: Final = np.array([20.0, 30.0, 30.0, 60.0, 600.0])
_WANDER: Final = np.array([[1.5], [0.7], [0.3], [2.5], [0.05]])  # deviation within one patient
_WANDER_S: Final = np.array([45.0, 60.0, 120.0, 300.0, 1800.0])
_CIRCADIAN: Final = np.array([[3.0], [0.3], [0.0], [5.0], [0.3]])  # amplitude
_ACTIVITY: Final = np.array([[18.0], [4.0], [-0.5], [12.0], [0.0]])  # at full activity
_LIVING: Final = np.array([[20.0, 220.0], [4.0, 60.0], [50.0, 100.0], [40.0, 250.0], [30.0, 42.5]])
_EXERTION_S: Final = (30.0, 75.0)  # how the heart follows exertion, and how it recovers
_PEAK_MS: Final = 17 * 3_600_000  # late afternoon
_FIBRILLATION_WANDER: Final = 9.0  # /min, deviation added between readings at full fibrillation


class _BodyDraw(IntEnum):
    """Purposes of random draws. Every seeded byte depends on the values, so they must never change."""

    AGE_BAND = 100
    AGE = 101
    PHASE = 102
    PULSE_PRESSURE = 103
    REST = 110  # and the four after it
    WANDER = 120  # and the four after it
    BOUT = 130
    BOUT_SIZE = 131


class Cohort:
    """A number of patients, simulated together.

    Args:
        keys: one 64-bit key per patient (`draws.key_of`); equal keys are the same patient.
        at_ms: when the simulation begins, with all patients at rest.
    """

    def __init__(self, keys: Sequence[int] | Keys, *, at_ms: int) -> None:
        self.keys: Keys = np.asarray(keys, dtype=np.uint64)
        self.at_ms = at_ms
        self._draw_patients()

    @classmethod
    def of(cls, seed: int, patients: int, *, at_ms: int, first: int = 0) -> "Cohort":
        """Patients `first` to `first + patients - 1` of the ward with this seed."""
        return cls(draws.keys_of(seed, range(first, first + patients)), at_ms=at_ms)

    def __len__(self) -> int:
        return int(self.keys.size)

    def step(self, to_ms: int, drives: Floats | None = None) -> None:
        """Advance all patients to `to_ms` under constant drives, in one step whatever its length.

        Args:
            to_ms: not before `at_ms`.
            drives: shape (len(Drive), patients); None: all 0.

        Raises:
            TimeRanBackwards: `to_ms` lies before `at_ms`.
        """
        if to_ms < self.at_ms:
            raise TimeRanBackwards(at_ms=self.at_ms, asked_ms=to_ms)
        if to_ms == self.at_ms:
            return
        self.drives = self._no_drives if drives is None else drives
        elapsed_s = (to_ms - self.at_ms) / 1000
        self.at_ms = to_ms
        self._move_signs(elapsed_s)
        self._vary(elapsed_s)
        self._update_signs()

    def _draw_patients(self) -> None:
        band = self._bands()
        rest = np.array([AGE_BANDS[index].rest for index in band]).T
        streams = [_BodyDraw.REST + row for row in range(len(Sign))]
        self.rest: Floats = np.ascontiguousarray(rest + _SPREAD * draws.normal(self.keys, streams, 0))
        self._baroreflex = np.array([AGE_BANDS[index].baroreflex for index in band])
        # Pulse pressure is a share of systolic pressure: about 40 of 120 mmHg, a little more in stiff arteries.
        spread = draws.normal(self.keys, [_BodyDraw.PULSE_PRESSURE], 0)[0]
        self._diastolic_share = 0.62 - 0.02 * band + 0.02 * spread
        # The peak of the day moves by up to 1.5 h between patients; scalar functions, see `simulators.draws`.
        phases = [(u - 0.5) * 3 / 24 * 2 * math.pi for u in draws.uniform(self.keys, [_BodyDraw.PHASE], 0)[0].tolist()]
        self._phase_cos = np.array([math.cos(phase) for phase in phases])
        self._phase_sin = np.array([math.sin(phase) for phase in phases])
        self._no_drives = np.zeros((len(Drive), len(self)))
        self.drives = self._no_drives
        self._bout: tuple[int, Floats] = (-1, np.zeros(len(self)))
        self._body = self.rest + _CIRCADIAN * self._day()
        self._unit_wander = draws.normal(self.keys, _WANDER_STREAMS, self.at_ms)
        self._irregular: Floats = np.zeros(len(self))
        self.activity: Floats = np.zeros(len(self))
        self._reserve = np.maximum(0.0, 208.0 - 0.7 * self.age_years - self.rest[Sign.HEART_RATE])
        self._exerted: Floats = np.zeros(len(self))  # exertion as the heart feels it
        self._update_signs()

    def _bands(self) -> npt.NDArray[np.int64]:
        edges = np.cumsum([band.share for band in AGE_BANDS])[:-1]
        band = np.searchsorted(edges, draws.uniform(self.keys, [_BodyDraw.AGE_BAND], 0)[0], side="right")
        low = np.array([AGE_BANDS[index].years[0] for index in band])
        high = np.array([AGE_BANDS[index].years[1] for index in band])
        within = draws.uniform(self.keys, [_BodyDraw.AGE], 0)[0]
        self.age_years: npt.NDArray[np.int64] = (low + within * (high - low + 1)).astype(np.int64)
        bands: npt.NDArray[np.int64] = band.astype(np.int64)
        return bands

    def _move_signs(self, elapsed_s: float) -> None:
        """Move every sign towards its target; signs that drive others move first."""
        body, rest, drives = self._body, self.rest, self.drives
        self.activity = np.minimum(1.0, self._bouts() + drives[Drive.ACTIVITY])
        usual = rest + _CIRCADIAN * self._day() + _ACTIVITY * self.activity
        if drives[Drive.EXERTION].any() or self._exerted.any():
            self._exert(usual, elapsed_s)
        keep = [math.exp(-elapsed_s / lag) for lag in _LAG_S.tolist()]

        def move(sign: Sign, target: Floats) -> None:
            body[sign] = target + (body[sign] - target) * keep[sign]

        move(Sign.TEMPERATURE, usual[Sign.TEMPERATURE] + drives[Drive.FEVER])
        lost = np.maximum(0.0, drives[Drive.DESATURATION] - OXYGEN_RELIEF * drives[Drive.OXYGEN])
        move(Sign.SPO2, usual[Sign.SPO2] - lost)
        move(Sign.SYSTOLIC_BP, usual[Sign.SYSTOLIC_BP] * (1.0 - drives[Drive.HYPOTENSION]))

        fever = body[Sign.TEMPERATURE] - usual[Sign.TEMPERATURE]
        hypoxia = np.maximum(0.0, HYPOXIA_FROM - body[Sign.SPO2])
        move(
            Sign.RESPIRATORY_RATE,
            usual[Sign.RESPIRATORY_RATE] + FEVER_BREATH * fever + HYPOXIA_BREATH * hypoxia + drives[Drive.VENTILATION],
        )
        unloaded = usual[Sign.SYSTOLIC_BP] - body[Sign.SYSTOLIC_BP]
        reflex = self._baroreflex * np.where(unloaded > 0, unloaded, 0.4 * unloaded)
        move(
            Sign.HEART_RATE,
            usual[Sign.HEART_RATE] + FEVER_HEART * fever + HYPOXIA_HEART * hypoxia + reflex + drives[Drive.CHRONOTROPY],
        )

    def _exert(self, usual: Floats, elapsed_s: float) -> None:
        """Add exertion to what the signs tend to."""
        wanted = self.drives[Drive.EXERTION]
        onset, recovery = (math.exp(-elapsed_s / seconds) for seconds in _EXERTION_S)
        kept = np.where(wanted >= self._exerted, onset, recovery)
        self._exerted = wanted + (self._exerted - wanted) * kept
        self._exerted[self._exerted < 1e-4] = 0.0
        usual[Sign.HEART_RATE] += self._reserve * self._exerted
        usual[Sign.RESPIRATORY_RATE] += EXERTION_BREATH * self._exerted
        usual[Sign.SYSTOLIC_BP] += EXERTION_PRESSURE * self._exerted
        usual[Sign.SPO2] += EXERTION_SPO2 * self._exerted

    def _vary(self, elapsed_s: float) -> None:
        kept = np.array([[math.exp(-elapsed_s / seconds)] for seconds in _WANDER_S.tolist()])
        fresh = draws.normal(self.keys, _WANDER_STREAMS, self.at_ms)
        self._unit_wander = kept * self._unit_wander + np.sqrt(1 - kept * kept) * fresh
        # A fibrillating heart has no memory from one reading to the next.
        self._irregular = _FIBRILLATION_WANDER * self.drives[Drive.FIBRILLATION] * fresh[Sign.HEART_RATE]

    def _update_signs(self) -> None:
        shown = self._body + _WANDER * self._unit_wander
        shown[Sign.HEART_RATE] += self._irregular
        self.signs: Floats = np.clip(shown, _LIVING[:, :1], _LIVING[:, 1:])
        self.diastolic_bp: Floats = self.signs[Sign.SYSTOLIC_BP] * self._diastolic_share

    def _day(self) -> Floats:
        """1 at the patient's daily peak, -1 twelve hours away from it."""
        angle = 2 * math.pi * ((self.at_ms - _PEAK_MS) % _DAY_MS) / _DAY_MS
        return math.cos(angle) * self._phase_cos + math.sin(angle) * self._phase_sin

    def _bouts(self) -> Floats:
        slot = self.at_ms // _BOUT_MS
        if self._bout[0] != slot:
            daytime = 0.5 + 0.5 * math.cos(2 * math.pi * ((self.at_ms - 14 * 3_600_000) % _DAY_MS) / _DAY_MS)
            happens, size = draws.uniform(self.keys, [_BodyDraw.BOUT, _BodyDraw.BOUT_SIZE], slot)
            self._bout = (slot, np.where(happens < 0.02 + 0.10 * daytime, 0.3 + 0.5 * size, 0.0))
        return self._bout[1]


_WANDER_STREAMS: Final = tuple(_BodyDraw.WANDER + row for row in range(len(Sign)))

"""What a person may enter about a patient: bounds and units of each value, and the whole in words. Pure.

The same rules hold at the alarm desk and at the bedside, so that an entry accepted at one is accepted at the other.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from vitals.messages import Consciousness, Observation
from vitals.signs import SPEC, ValueClass, VitalSign, classify

MOST_NOTE_CHARACTERS: Final = 500
MOST_DEVICE_CHARACTERS: Final = 40
MOST_NAME_CHARACTERS: Final = 64
MOST_AGE_MS: Final = 86_400_000
"""An observation older than this is refused: it says nothing about the patient now, and belongs into the notes."""
FUTURE_MS: Final = 60_000
"""So far ahead the clock of the person's machine may be; the time becomes that of the entry."""
MOST_OFF_MS: Final = 2 * 3_600_000
"""Devices may be off on purpose for at most this long; then silence is a technical alarm again."""

ROOM_AIR: Final = 21.0  # % of oxygen
_HIGH_FLOW: Final = ("high flow", "high-flow", "hfno", "hfnc", "optiflow", "cpap", "niv", "bipap", "ventilator")
_MOST_WITHOUT_HIGH_FLOW: Final = 15.0  # L/min; what a wall flowmeter gives

CONSCIOUSNESS_WORDS: Final = {
    Consciousness.ALERT: "alert",
    Consciousness.CONFUSION: "new confusion: newly disoriented, agitated or delirious",
    Consciousness.VOICE: "responds to voice only",
    Consciousness.PAIN: "responds to pain only",
    Consciousness.UNRESPONSIVE: "unresponsive",
}


class Quantity(NamedTuple):
    """A number that a person may enter."""

    field: str  # of `messages.Observation`
    label: str
    unit: str
    decimals: int
    usual: tuple[float, float]  # inclusive; outside it the person has to confirm that the value is right
    possible: tuple[float, float]  # inclusive; outside it the value is refused


class EntryProblem(NamedTuple):
    """Why an observation is not accepted."""

    field: str
    text: str  # names the value, its unit and the fix
    is_extreme: bool = False  # the value is possible: it is accepted if the person confirms it


def _of_sign(sign: VitalSign) -> Quantity:
    spec = SPEC[sign]
    return Quantity(sign.value, spec.label, spec.unit, spec.decimals, spec.usual, spec.possible)


QUANTITIES: Final = (
    _of_sign(VitalSign.RESPIRATORY_RATE),
    _of_sign(VitalSign.SPO2),
    Quantity("supplemental_oxygen", "oxygen", "L/min", 1, (0, 60), (0, 80)),
    Quantity("inspired_oxygen", "inspired oxygen (FiO2)", "%", 0, (ROOM_AIR, 100), (ROOM_AIR, 100)),
    _of_sign(VitalSign.SYSTOLIC_BP),
    _of_sign(VitalSign.DIASTOLIC_BP),
    _of_sign(VitalSign.HEART_RATE),
    _of_sign(VitalSign.TEMPERATURE),
    # 600 mg/dL, the end of most meters, is 33 mmol/L.
    Quantity("glucose", "glucose", "mmol/L", 1, (2, 33), (0.3, 100)),
)
"""In the order in which a chart of NEWS2 asks for them."""

_SIGNS: Final = frozenset(VitalSign)


def problems(observation: Observation) -> list[EntryProblem]:
    """Everything that is wrong with the values and texts of an observation; the first is the one to tell."""
    found = [one for quantity in QUANTITIES for one in _of_quantity(quantity, getattr(observation, quantity.field))]
    found += _of_oxygen(observation)
    found += _of_pressure(observation)
    found += _of_texts(observation)
    if observation.off_until_ms is not None and not (0 < observation.off_until_ms - observation.at_ms <= MOST_OFF_MS):
        hours = MOST_OFF_MS // 3_600_000
        found.append(
            EntryProblem(
                "off_until_ms", f"devices may be off on purpose for at most {hours} hours; enter it again then"
            )
        )
    if not is_anything(observation) and not (observation.corrects and observation.note):
        found.append(
            EntryProblem(
                "", "nothing is entered; give a value, --off-for or a note (to withdraw an entry: a note that says why)"
            )
        )
    return sorted(found, key=lambda one: one.is_extreme)


def is_anything(observation: Observation) -> bool:
    """Whether it says anything about the patient; a correction that does not withdraws what it corrects."""
    values = [getattr(observation, quantity.field) for quantity in QUANTITIES]
    has_value = observation.consciousness is not None or any(value is not None for value in values)
    is_note = bool(observation.note) and not observation.corrects
    return has_value or observation.off_until_ms is not None or is_note


def time_problem(at_ms: int, now_ms: int) -> str:
    """Why an observation of `at_ms` is not accepted at `now_ms`; empty: it is."""
    if at_ms > now_ms + FUTURE_MS:
        return "the time of an observation must not be in the future; check the time that you gave and the clocks"
    if at_ms < now_ms - MOST_AGE_MS:
        return (
            "the time of an observation is at most 24 hours ago: an older one says nothing about the patient now; "
            "write it into the patient's notes"
        )
    return ""


def in_words(observation: Observation) -> list[str]:
    """What is observed, a line for each value, with units; for the person who is asked to confirm it."""
    lines = []
    if observation.consciousness is not None:
        level = observation.consciousness
        lines.append(f"consciousness: {level.letter}, {CONSCIOUSNESS_WORDS[level]}")
    lines += _oxygen_words(observation)
    for quantity in QUANTITIES:
        value = getattr(observation, quantity.field)
        if value is None or quantity.field in _OXYGEN or quantity.field in _PRESSURES:
            continue
        lines.append(f"{quantity.label}: {value:.{quantity.decimals}f} {quantity.unit}")
    if observation.systolic_bp is not None:
        below = "not measured" if observation.diastolic_bp is None else f"{observation.diastolic_bp:.0f}"
        lines.append(f"blood pressure: {observation.systolic_bp:.0f}/{below} mmHg")
    if observation.off_until_ms is not None:
        minutes = round((observation.off_until_ms - observation.at_ms) / 60_000)
        lines.append(f"devices are off on purpose for {minutes} min")
    if observation.note:
        lines.append(f"note: {observation.note}")
    if observation.corrects and not is_anything(observation):
        lines.append("the earlier entry is withdrawn")
    return lines


_OXYGEN: Final = ("supplemental_oxygen", "inspired_oxygen")
_PRESSURES: Final = ("systolic_bp", "diastolic_bp")


def _oxygen_words(observation: Observation) -> list[str]:
    flow, share = observation.supplemental_oxygen, observation.inspired_oxygen
    by = f" by {observation.oxygen_device}" if observation.oxygen_device else ""
    if flow == 0 and share in (None, ROOM_AIR):
        return ["oxygen: none, room air"]
    parts = ([] if flow is None else [f"{flow:g} L/min"]) + ([] if share is None else [f"FiO2 {share:g} %"])
    return [f"oxygen: {', '.join(parts)}{by}"] if parts else []


def _of_quantity(quantity: Quantity, value: float | None) -> Iterable[EntryProblem]:
    if value is None:
        return
    low, high = quantity.possible
    named = f"{quantity.label} {value:g}"
    if reason := _why_impossible(quantity, value):
        yield EntryProblem(quantity.field, f"{named}: {reason}; give {quantity.unit} between {low:g} and {high:g}")
    elif not quantity.usual[0] <= value <= quantity.usual[1]:
        yield EntryProblem(
            quantity.field, f"{named} {quantity.unit} is extreme; confirm that it is right", is_extreme=True
        )


def _why_impossible(quantity: Quantity, value: float) -> str:
    """Why a value cannot be one of its quantity, with the unit that it looks like; empty: it can."""
    for field, above, up_to, reason in _OTHER_UNITS:
        if field == quantity.field and above < value <= up_to:
            return reason
    if quantity.field in _SIGNS and quantity.field != VitalSign.SUPPLEMENTAL_OXYGEN:
        classified = classify(VitalSign(quantity.field), value)
        return classified.reason if classified.value_class is ValueClass.NO_VALUE else ""
    return "" if quantity.possible[0] <= value <= quantity.possible[1] else "impossible"  # also of NaN


_OTHER_UNITS: Final = (
    ("inspired_oxygen", 0.0, 1.0, "looks like a fraction of 1, not %: write 40 for 0.4"),
    ("supplemental_oxygen", 80.0, 100.0, "looks like a percentage, which is FiO2"),
    ("glucose", 100.0, 2_000.0, "looks like mg/dL, not mmol/L: divide by 18"),
)


def _of_oxygen(observation: Observation) -> Iterable[EntryProblem]:
    flow, share, device = observation.supplemental_oxygen, observation.inspired_oxygen, observation.oxygen_device
    if flow == 0 and share is not None and share > ROOM_AIR:
        yield EntryProblem(
            "inspired_oxygen", f"0 L/min of oxygen and FiO2 {share:g} % contradict each other; room air has 21 %"
        )
    if device and flow is None and share is None:
        yield EntryProblem("oxygen_device", "an oxygen device needs the flow in L/min, or FiO2 in %")
    named = device.casefold()
    if flow is not None and _MOST_WITHOUT_HIGH_FLOW < flow <= 80 and not any(one in named for one in _HIGH_FLOW):
        yield EntryProblem(
            "supplemental_oxygen",
            f"oxygen {flow:g} L/min: above 15 L/min it needs a high-flow device; name it, or give a percentage as FiO2",
        )


def _of_pressure(observation: Observation) -> Iterable[EntryProblem]:
    systolic, diastolic = observation.systolic_bp, observation.diastolic_bp
    if diastolic is not None and systolic is None:
        yield EntryProblem("diastolic_bp", "a diastolic blood pressure needs the systolic one, in mmHg")
    elif diastolic is not None and systolic is not None and diastolic >= systolic:
        yield EntryProblem(
            "diastolic_bp",
            f"blood pressure {systolic:g}/{diastolic:g} mmHg: diastolic must be below systolic; were they exchanged?",
        )


def _of_texts(observation: Observation) -> Iterable[EntryProblem]:
    texts = (
        ("note", "the note", observation.note, 0, MOST_NOTE_CHARACTERS),
        ("oxygen_device", "the oxygen device", observation.oxygen_device, 0, MOST_DEVICE_CHARACTERS),
        ("by", "the name of the person", observation.by, 1, MOST_NAME_CHARACTERS),
    )
    for field, label, text, least, most in texts:
        if not least <= len(text) <= most or not text.isprintable():
            yield EntryProblem(field, f"{label} must have {least} to {most} printable characters, in one line")
    if len(observation.observation_id) != 16 or len(observation.corrects) not in (0, 16):
        yield EntryProblem("observation_id", "the id of an observation has 16 bytes")
    if observation.corrects and observation.corrects == observation.observation_id:
        yield EntryProblem("corrects", "an observation cannot correct itself")

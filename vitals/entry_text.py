"""What a person types about a patient, as values; and the questions, step by step. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from vitals.entry_limits import CONSCIOUSNESS_WORDS, MOST_OFF_MS, QUANTITIES, problems
from vitals.errors import BadEntry
from vitals.messages import Consciousness, Observation

Values: TypeAlias = dict[str, Any]
"""Fields of `messages.Observation` that were observed. Consciousness is its letter; `off_minutes` is a duration."""

LEVELS: Final = {level.letter: level for level in Consciousness}

INTRODUCTION: Final = (
    *(f"  {level.letter}  {words}" for level, words in CONSCIOUSNESS_WORDS.items()),
    "  C is new confusion. If you do not know for how long a patient has been confused, it is C.",
)
"""Lines that explain the letters of consciousness."""

_OFF_UNITS: Final = {"m": 1, "min": 1, "h": 60}
_MOST_OFF: Final = MOST_OFF_MS // 60_000


class EntryQuestion(NamedTuple):
    """One step."""

    field: str
    text: str
    parse: Callable[[str], Any]  # a value, or several by field; raises BadEntry


def level_of(text: str) -> str:
    """The letter of a level of consciousness. Raises BadEntry.

    >>> level_of(" c")
    'C'
    """
    letter = text.strip().upper()
    if letter not in LEVELS:
        known = ", ".join(f"{level.letter} ({words.split(':')[0]})" for level, words in CONSCIOUSNESS_WORDS.items())
        raise BadEntry(f"consciousness {text[:20]!r}: give one of {known}")
    return letter


def pressure_of(text: str) -> Values:
    """`118/76`, or `118` where only the systolic pressure could be taken. Raises BadEntry.

    >>> pressure_of("118/76")
    {'systolic_bp': 118.0, 'diastolic_bp': 76.0}
    """
    systolic, slash, diastolic = text.partition("/")
    try:
        found = {"systolic_bp": float(systolic)}
        return found | ({"diastolic_bp": float(diastolic)} if slash else {})
    except ValueError:
        raise BadEntry(f"blood pressure {text[:20]!r}: give it as 118/76, in mmHg") from None


def oxygen_of(text: str) -> Values:
    """`2`: L/min; `40%`: inspired oxygen. Raises BadEntry."""
    if text.endswith("%"):
        return {"inspired_oxygen": number_of(text[:-1])}
    return {"supplemental_oxygen": number_of(text)}


def minutes_of(text: str) -> int:
    """`20m`, `20min`, `1h`, or `20`: minutes. Raises BadEntry.

    >>> minutes_of("1h")
    60
    """
    digits = text.strip().rstrip("minh")
    unit = text.strip()[len(digits) :] or "m"
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 6
    if not is_number or unit not in _OFF_UNITS or not 0 < int(digits) * _OFF_UNITS[unit] <= _MOST_OFF:
        raise BadEntry(f"off for {text[:20]!r}: give minutes or hours, as 20m or 1h, at most {_MOST_OFF // 60}h")
    return int(digits) * _OFF_UNITS[unit]


def number_of(text: str) -> float:
    """A number, with a point or a comma. Raises BadEntry."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise BadEntry(f"{text[:20]!r}: not a number") from None


QUESTIONS: Final = (
    EntryQuestion("consciousness", "consciousness (A, C, V, P, U)", level_of),
    EntryQuestion("respiratory_rate", "respiratory rate, breaths a minute", number_of),
    EntryQuestion("spo2", "oxygen saturation, %", number_of),
    EntryQuestion("supplemental_oxygen", "oxygen, L/min (0: room air), or inspired oxygen as 40%", oxygen_of),
    EntryQuestion("oxygen_device", "oxygen device, such as nasal cannula", str),
    EntryQuestion("systolic_bp", "blood pressure, mmHg, as 118/76", pressure_of),
    EntryQuestion("heart_rate", "heart rate a minute", number_of),
    EntryQuestion("temperature", "temperature, °C", number_of),
    EntryQuestion("glucose", "glucose, mmol/L", number_of),
    EntryQuestion("off_minutes", "devices are off on purpose for, such as 20m for a bath", minutes_of),
    EntryQuestion("note", "note", str),
)


def ask(ask_for: Callable[[str], str], say: Callable[[str], None]) -> Values:
    """Ask each question until its answer can be right; an empty answer leaves the value out.

    Args:
        ask_for: shows a text and returns the line that the person typed.
        say: shows a line.

    Raises:
        BadEntry: nothing was entered.
    """
    for line in INTRODUCTION:
        say(line)
    values: Values = {}
    for field, text, parse in QUESTIONS:
        if field == "oxygen_device" and not values.get("supplemental_oxygen") and "inspired_oxygen" not in values:
            continue
        while line := ask_for(text).strip():
            try:
                found = parse(line)
                parsed = found if isinstance(found, dict) else {field: found}
                _check(values | parsed, new=parsed)
            except BadEntry as error:
                say(f"  {error}")
                continue
            values |= parsed
            break
    if not values:
        raise BadEntry("nothing is entered")
    return values


def observation_of(values: Mapping[str, Any], *, at_ms: int = 0, by: str = "you", **about: Any) -> Observation:
    """The observation that these values make.

    Args:
        about: further fields, such as `stay_id`.
    """
    level, off = values.get("consciousness"), values.get("off_minutes")
    return Observation(
        **{
            "stay_id": "",
            "observation_id": bytes(16),
            "by": by,
            "at_ms": at_ms,
            "entered_ms": at_ms,
            "heard_ms": at_ms,
            "consciousness": None if level is None else LEVELS[level],
            "oxygen_device": values.get("oxygen_device", ""),
            "off_until_ms": None if off is None else at_ms + off * 60_000,
            "note": values.get("note", ""),
            "corrects": bytes.fromhex(values.get("corrects") or ""),
            **{one.field: values[one.field] for one in QUANTITIES if values.get(one.field) is not None},
            **about,
        }
    )


def _check(values: Values, *, new: Values) -> None:
    """Raises BadEntry for a new value that would be refused."""
    for problem in problems(observation_of(values)):
        # The flow is asked before the device that makes it possible; that it needs one is told at the end.
        if problem.field in new and not problem.is_extreme and "high-flow" not in problem.text:
            raise BadEntry(problem.text)

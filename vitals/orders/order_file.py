"""One level of orders as a TOML file: read with errors that name file, key and fix, written back, and its schema."""

import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from vitals.errors import BadOrders
from vitals.messages import Activity, Priority
from vitals.orders.level import (
    CONDITION_PREFIX,
    LevelName,
    OrderLevel,
    Prescription,
    QuietHours,
    RuleChange,
)
from vitals.orders.units import (
    NOT_JUDGED,
    comparable,
    duration_text,
    limit_in,
    minute_text,
    parse_duration,
    parse_limit,
    parse_minute,
)
from vitals.plan import MEASURED
from vitals.rules import DEFAULT_RULES, LONGEST_TREND_MS, TERM_QUANTITIES, AlarmLimit, Rule, Term, Trend
from vitals.signs import SPEC, VitalSign

OFF: Final = "off"
"""In the place of a limit: no alarm of this priority. In the place of quiet hours: none."""

COMBINED_MARGIN: Final = 0.75
"""The value of a combined condition is 1 when it is true, 0.5 when a term is inside its limit and not by its margin, 0
when one is well inside. Clearing begins at 0."""

_T = TypeVar("_T")
_Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Small letters, digits and _.")]
_Line = Annotated[str, Meta(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$", description="One line of text.")]
_Short = Annotated[str, Meta(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$", description="One short line of text.")]
_Time = Annotated[
    str,
    Meta(
        description="Date and time with the offset of its time zone.",
        examples=["2026-11-29T08:00:00+01:00"],
        extra_json_schema={"format": "date-time"},
    ),
]
_Duration = Annotated[str, Meta(description="A time with its unit.", examples=["15 s", "10 min", "1 h 30 min"])]
_Number = Annotated[float | str, Meta(description="A number, with or without its unit; or `off`.")]
_Priority = Literal["low", "medium", "high"]


class OrderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[order]`: which level this is, who orders it, why, and from when to when."""

    level: LevelName
    name: _Short = ""
    by: _Short = ""
    why: _Line = ""
    from_: _Time | None = msgspec.field(name="from", default=None)
    until: _Time | None = None
    profile: _Name | None = None


class WatchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[watch]`: which signs are expected, how often, and how old their values may be."""

    expected: tuple[str, ...] | None = None
    cadence: dict[str, _Duration] = {}
    valid: dict[str, _Duration] = {}
    stale_after: _Duration | None = None
    lost_after: _Duration | None = None


class Spo2Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[spo2]`: the SpO2 scale of NEWS2. Scale 2 needs its prescription: who, when, why."""

    scale: Literal[1, 2]
    prescribed_by: _Short = ""
    prescribed_at: _Time | None = None
    why: _Line = ""


class RuleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[rule.ID]`: what is another for one rule."""

    low: _Number | None = None
    medium: _Number | None = None
    high: _Number | None = None
    delay: _Duration | None = None
    clear_margin: float | None = None
    clear_after: _Duration | None = None
    clear_count: Annotated[int, Meta(ge=1, le=100)] | None = None
    latching: bool | None = None
    enabled: bool | None = None
    call: _Short | None = None


class TrendTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[condition.trend]`: a change of one sign over a time. One of rise, fall, rise_percent, fall_percent."""

    sign: str
    over: _Duration
    rise_percent: float | None = None
    fall_percent: float | None = None
    rise: float | None = None
    fall: float | None = None


class ConditionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[[condition]]`: a rule of this order. `all`: everything must be true at once; or a trend."""

    name: _Name
    label: _Short = ""
    priority: _Priority = "medium"
    all: tuple[str, ...] = ()
    trend: TrendTable | None = None
    margin: dict[str, float] = {}
    delay: _Duration = "0 s"
    clear_margin: float | None = None
    clear_after: _Duration = "10 min"
    clear_count: Annotated[int, Meta(ge=1, le=100)] = 2
    latching: bool | None = None
    call: _Short | None = None


class CallTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[call]`: the name of a ladder of the desk, or `observe`: listed, and no person is called."""

    high: _Short | None = None
    medium: _Short | None = None
    low: _Short | None = None
    technical: _Short | None = None


class QuietTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[quiet]`: from when to when alarms of low priority call nobody, by the clock of the site."""

    from_: str = msgspec.field(name="from")
    to: str
    priority: Literal["low"] = "low"


class ActivityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[activity]`: which activity, at most, explains a fast heart and breathing; `off`: none does."""

    explains: Literal["off", "walk", "exercise"] | None = None
    learns: bool | None = None


class OrderFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Orders of one level."""

    order: OrderTable
    watch: WatchTable = WatchTable()
    spo2: Spo2Table | None = None
    rule: dict[str, RuleTable] = {}
    condition: tuple[ConditionTable, ...] = ()
    call: CallTable = CallTable()
    quiet: QuietTable | Literal["off"] | None = None
    activity: ActivityTable = ActivityTable()


def schema() -> dict[str, Any]:
    """The JSON schema of an order file."""
    return msgspec.json.schema(OrderFile)


def parse_toml(text: str, *, file: str = "") -> OrderLevel:
    """The level that a file says.

    Raises:
        BadOrders: the file cannot be read, or says something that cannot be meant; with file, key and fix.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise BadOrders(f"is no valid TOML: {error}; a key may stand only once", file=file) from error
    try:
        return _Reader(file).level(raw)
    except (OverflowError, RecursionError) as error:
        raise BadOrders(f"a number or a table in it is too large: {error}", file=file) from error


class _Reader:
    """Reads the tables of one file; knows the key that is being read."""

    def __init__(self, file: str) -> None:
        self._file = file

    def level(self, raw: dict[str, Any]) -> OrderLevel:
        raw = self._with_times(raw, "")
        self._known_tables(raw)
        order = self._table(raw, "order", OrderTable)
        watch = self._table(raw, "watch", WatchTable)
        spo2 = self._table(raw, "spo2", Spo2Table) if "spo2" in raw else None
        rules = {
            rule_id: self._rule(rule_id, self._read(table, RuleTable, f"rule.{rule_id}"))
            for rule_id, table in self._mapping(raw, "rule").items()
        }
        tables = raw.get("condition", [])
        if not isinstance(tables, list):
            raise self._bad("condition", "write each condition as a table `[[condition]]`")
        conditions = [self._read(table, ConditionTable, f"condition[{place}]") for place, table in enumerate(tables)]
        calls = self._table(raw, "call", CallTable)
        activity = self._table(raw, "activity", ActivityTable)
        for one in conditions:
            if one.call is not None:
                rule_id = CONDITION_PREFIX + one.name
                rules[rule_id] = RuleChange(call=self._ladder(f"condition.{one.name}.call", one.call))
        return OrderLevel(
            level=order.level,
            name=order.name,
            by=order.by,
            why=order.why,
            valid_from_ms=self._instant("order.from", order.from_),
            valid_until_ms=self._instant("order.until", order.until),
            profile=order.profile,
            spo2_scale=None if spo2 is None else spo2.scale,
            prescription=None if spo2 is None else self._prescription(spo2),
            expected=None if watch.expected is None else self._expected(watch.expected),
            cadence_ms=self._durations("watch.cadence", watch.cadence),
            valid_ms=self._durations("watch.valid", watch.valid),
            stale_after_ms=self._duration("watch.stale_after", watch.stale_after),
            lost_after_ms=self._duration("watch.lost_after", watch.lost_after),
            rules=rules,
            conditions=tuple(self._condition(one) for one in conditions),
            calls={
                name: self._ladder(f"call.{name}", ladder)
                for name in CallTable.__struct_fields__
                if (ladder := getattr(calls, name)) is not None
            },
            quiet=self._quiet(raw.get("quiet")),
            holds_up_to=None if activity.explains is None else _ACTIVITIES[activity.explains],
            learns_by_activity=activity.learns,
        )

    def _rule(self, rule_id: str, table: RuleTable) -> RuleChange:
        key = f"rule.{rule_id}"
        quantity = self._quantity(rule_id, key, table)
        return RuleChange(
            low=self._limit(f"{key}.low", quantity, table.low),
            medium=self._limit(f"{key}.medium", quantity, table.medium),
            high=self._limit(f"{key}.high", quantity, table.high),
            for_ms=self._duration(f"{key}.delay", table.delay),
            clear_margin=self._amount(f"{key}.clear_margin", table.clear_margin),
            clear_for_ms=self._duration(f"{key}.clear_after", table.clear_after),
            clear_count=table.clear_count,
            latching=table.latching,
            enabled=table.enabled,
            call=None if table.call is None else self._ladder(f"{key}.call", table.call),
        )

    def _quantity(self, rule_id: str, key: str, table: RuleTable) -> str:
        quantity = _QUANTITY_OF.get(rule_id)
        if quantity is None and rule_id.startswith(CONDITION_PREFIX):
            if any(limit is not None for limit in (table.low, table.medium, table.high)):
                raise self._bad(key, "the limits of a condition stand in the order that made it; write it again whole")
            return ""
        if quantity is None:
            raise self._bad(
                key, f"unknown rule{_did_you_mean(rule_id, _QUANTITY_OF)}; known are {_listed(_QUANTITY_OF)}"
            )
        return quantity

    def _condition(self, table: ConditionTable) -> Rule:
        key = f"condition.{table.name}"
        if bool(table.all) == (table.trend is not None):
            raise self._bad(key, 'give either `all = ["heart_rate >= 110", ...]` or a table `[condition.trend]`')
        rule = Rule(
            rule_id=CONDITION_PREFIX + table.name,
            label=table.label or table.name.replace("_", " "),
            quantity="combined",
            limits=(AlarmLimit(1, Priority[table.priority.upper()]),),
            for_ms=self._duration(f"{key}.delay", table.delay) or 0,
            clear_margin=COMBINED_MARGIN,
            clear_for_ms=self._duration(f"{key}.clear_after", table.clear_after) or 0,
            clear_count=table.clear_count,
            latching=table.latching,
            basis="order",
        )
        if table.trend is not None:
            return self._trend(f"{key}.trend", rule, table, table.trend)
        if table.clear_margin is not None:
            raise self._bad(f"{key}.clear_margin", "is of a trend; of several signs give margin = { SIGN = NUMBER }")
        terms = tuple(self._term(f"{key}.all", text, table.margin) for text in table.all)
        for name in table.margin:
            if name not in {term.quantity for term in terms}:
                raise self._bad(f"{key}.margin.{name}", "is not among the terms of `all`")
        return msgspec.structs.replace(rule, all_of=terms)

    def _term(self, key: str, text: str, margins: Mapping[str, float]) -> Term:
        match = _TERM.fullmatch(text.strip())
        if match is None:
            raise self._bad(key, f'{text!r} is no comparison; write a sign, >= or <=, a limit: "heart_rate >= 110"')
        name, sign, limit = match[1], _SIGNS.get(match[2], match[2]), match[3]
        if sign not in (">=", "<="):
            raise self._bad(key, f"{text!r}: write >= or <=; the number that is printed belongs to the limit")
        self._check_comparable(key, name, limit)
        threshold = self._parsed(key, lambda: parse_limit(name, limit))
        margin = margins.get(name, _MARGINS.get(name, 0.0))
        return Term(name, ">=" if sign == ">=" else "<=", threshold, self._amount(f"{key}.{name}", margin) or 0.0)

    def _check_comparable(self, key: str, name: str, limit: str) -> None:
        if comparable(name):
            return
        known = (*(sign.value for sign in SPEC), *TERM_QUANTITIES)
        if name not in NOT_JUDGED:
            raise self._bad(key, f"unknown sign {name!r}{_did_you_mean(name, known)}; known are {_listed(known)}")
        try:
            parse_limit(name, limit)
        except BadOrders as error:
            raise self._bad(key, f"{name} {NOT_JUDGED[name]}; besides, {error.problem}") from error
        raise self._bad(key, f"{name} {NOT_JUDGED[name]}")

    def _trend(self, key: str, rule: Rule, table: ConditionTable, trend: TrendTable) -> Rule:
        sign = self._sign(f"{key}.sign", trend.sign)
        if sign not in MEASURED:
            raise self._bad(f"{key}.sign", f"{sign} is entered by people and has no trend")
        said = [(name, value) for name in _CHANGES if (value := getattr(trend, name)) is not None]
        if len(said) != 1:
            raise self._bad(key, f"give one of {', '.join(_CHANGES)}")
        name, amount = said[0]
        highest = 500.0 if name.endswith("_percent") else SPEC[sign].possible[1]
        if not 0 < amount <= highest:
            raise self._bad(f"{key}.{name}", f"{amount:g} is no change; changes are above 0, at most {highest:g}")
        over_ms = self._duration(f"{key}.over", trend.over) or 0
        if not 5 * 60_000 <= over_ms <= LONGEST_TREND_MS:
            raise self._bad(f"{key}.over", "a trend is over 5 min to 4 h")
        if table.margin:
            raise self._bad(f"{key}.margin", "is of several signs; of a trend give clear_margin")
        margin = amount / 4 if table.clear_margin is None else self._amount(f"{key}.clear_margin", table.clear_margin)
        return msgspec.structs.replace(
            rule,
            quantity="trend",
            limits=(AlarmLimit(amount, rule.limits[0].priority),),
            clear_margin=margin,
            trend=Trend(sign.value, over_ms, name.startswith("fall"), name.endswith("_percent")),
        )

    def _prescription(self, table: Spo2Table) -> Prescription | None:
        at_ms = self._instant("spo2.prescribed_at", table.prescribed_at)
        if not (table.prescribed_by or table.why or at_ms is not None):
            return None
        if at_ms is None or not table.prescribed_by or not table.why:
            raise self._bad("spo2", "a prescription has three parts: prescribed_by, prescribed_at and why")
        return Prescription(table.prescribed_by, at_ms, table.why)

    def _expected(self, names: tuple[str, ...]) -> tuple[VitalSign, ...]:
        signs = tuple(dict.fromkeys(self._sign("watch.expected", name) for name in names))
        for sign in signs:
            if sign not in MEASURED:
                raise self._bad("watch.expected", f"{sign} is entered by people; no device can be expected to send it")
        return signs

    def _quiet(self, raw: Any) -> QuietHours | None:
        if raw is None:
            return None
        if raw == OFF:
            return QuietHours(0, 0)
        if isinstance(raw, dict) and raw.get("priority") in ("medium", "high"):
            raise self._bad("quiet.priority", "alarms of medium and high priority have no quiet hours; leave it out")
        table = self._read(raw, QuietTable, "quiet")
        from_minute = self._parsed("quiet.from", lambda: parse_minute(table.from_))
        to_minute = self._parsed("quiet.to", lambda: parse_minute(table.to))
        if from_minute == to_minute:
            raise self._bad("quiet", 'begins and ends at the same minute; for no quiet hours write quiet = "off"')
        return QuietHours(from_minute, to_minute)

    def _limit(self, key: str, quantity: str, said: float | str | None) -> float | UnsetType | None:
        if said is None:
            return UNSET
        if isinstance(said, str) and said.strip().lower() == OFF:
            return None
        return self._parsed(key, lambda: parse_limit(quantity, said))

    def _amount(self, key: str, said: float | None) -> float | None:
        if said is not None and not (isfinite(said) and said >= 0):
            raise self._bad(key, f"{said:g} is no margin; write a number that is 0 or more")
        return said

    def _durations(self, key: str, said: Mapping[str, str]) -> dict[VitalSign, int]:
        found = {}
        for name, text in said.items():
            sign = self._sign(f"{key}.{name}", name)
            ms = self._duration(f"{key}.{name}", text) or 0
            if ms < 1_000:
                raise self._bad(f"{key}.{name}", "must be at least 1 s")
            found[sign] = ms
        return found

    def _duration(self, key: str, text: str | None) -> int | None:
        return None if text is None else self._parsed(key, lambda: parse_duration(text))

    def _sign(self, key: str, name: str) -> VitalSign:
        known = [sign.value for sign in SPEC]
        if name not in known:
            said = f"{name} {NOT_JUDGED[name]}" if name in NOT_JUDGED else f"unknown sign {name!r}"
            raise self._bad(key, f"{said}{_did_you_mean(name, known)}; known are {_listed(known)}")
        return VitalSign(name)

    def _ladder(self, key: str, name: str) -> str:
        if not _LADDER.fullmatch(name):
            raise self._bad(key, f"{name!r} is no name of a ladder; write small letters, digits, _ and -, or `observe`")
        return name

    def _instant(self, key: str, text: str | None) -> int | None:
        return None if text is None else self._parsed(key, lambda: instant_of(text))

    def _parsed(self, key: str, parse: Callable[[], _T]) -> _T:
        try:
            return parse()
        except BadOrders as error:
            raise self._bad(key, error.problem) from error

    def _known_tables(self, raw: dict[str, Any]) -> None:
        known = OrderFile.__struct_fields__
        for name in raw:
            if name not in known:
                raise self._bad(name, f"unknown table{_did_you_mean(name, known)}; known are {_listed(known)}")
        if "order" not in raw:
            raise self._bad("order", 'is missing; begin with `[order]` and `level = "patient"`')

    def _table(self, raw: dict[str, Any], key: str, table: type[_T]) -> _T:
        return self._read(raw.get(key, {}), table, key)

    def _mapping(self, raw: dict[str, Any], key: str) -> dict[str, Any]:
        found = raw.get(key, {})
        if not isinstance(found, dict):
            raise self._bad(key, f"write a table for each rule: `[{key}.low_spo2]`")
        return found

    def _read(self, raw: Any, table: type[_T], key: str) -> _T:
        if isinstance(raw, dict) and isinstance(raw.get("name"), str):
            key = key.split("[")[0] + f".{raw['name']}" if "[" in key else key
        try:
            return msgspec.convert(raw, table)
        except msgspec.ValidationError as error:
            problem, _, at = str(error).partition(" - at `$")
            place = f"{key}{at.rstrip('`')}"
            unknown = re.search(r"unknown field `(.*)`", problem, re.DOTALL)
            if unknown is None:
                hint = next((fix for names, fix in _FIXES.items() if set(names) & set(re.split(r"\W+", place))), "")
                raise self._bad(place, f"{problem}{hint}") from error
            known = _fields_of(table, at)
            said = f"unknown key{_did_you_mean(unknown[1], known)}; known are {_listed(known)}"
            raise self._bad(f"{place}.{unknown[1]}", said) from error

    def _with_times(self, raw: Any, key: str) -> Any:
        """The same with dates as text: TOML has a type for them."""
        if isinstance(raw, dict):
            return {name: self._with_times(one, f"{key}.{name}".lstrip(".")) for name, one in raw.items()}
        if isinstance(raw, list):
            return [self._with_times(one, key) for one in raw]
        return raw.isoformat() if hasattr(raw, "isoformat") else raw

    def _bad(self, key: str, problem: str) -> BadOrders:
        return BadOrders(problem, file=self._file, key=key)


_FIXES: Final = {
    ("delay", "clear_after", "over", "stale_after", "lost_after", "cadence", "valid"): (
        '; write a time with its unit in quotes, such as "15 s" or "10 min"'
    ),
    ("all",): '; write a list of comparisons: ["heart_rate >= 110", "temperature >= 38.3"]',
    ("low", "medium", "high"): '; write a number, a number with its unit in quotes, or "off"',
    ("quiet",): '; write from = "22:00" and to = "07:00", or quiet = "off"',
    ("name",): "; a name has small letters, digits and _",
}
_QUANTITY_OF: Final = {rule.rule_id: rule.quantity for rule in DEFAULT_RULES}
_TERM: Final = re.compile(r"([A-Za-z0-9_:]+)\s*(>=|<=|≥|≤|==|=|>|<)\s*(\S.*)")
_SIGNS: Final = {"≥": ">=", "≤": "<="}
_LADDER: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_ACTIVITIES: Final = {"off": Activity.UNKNOWN, "walk": Activity.WALK, "exercise": Activity.EXERCISE}
_CHANGES: Final = ("rise_percent", "fall_percent", "rise", "fall")
# How far a value has to be inside for its term to be over, where an order says nothing: as in the default rules.
_MARGINS: Final = {
    "heart_rate": 5.0,
    "respiratory_rate": 2.0,
    "spo2": 2.0,
    "systolic_bp": 5.0,
    "diastolic_bp": 5.0,
    "temperature": 0.3,
    "shock_index": 0.05,
}


def instant_of(text: str) -> int:
    """Milliseconds since 1970 of a date and time with its offset.

    >>> instant_of("2026-01-05T14:02:00+01:00")
    1767618120000

    Raises:
        BadOrders: it is none, or has no offset.
    """
    try:
        found = tomllib.loads(f"at = {text}")["at"]
        if found.utcoffset() is not None:
            at_ms: int = round(found.timestamp() * 1_000)
            return at_ms
    except (tomllib.TOMLDecodeError, AttributeError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise BadOrders(f"{text!r} is no date and time; write it as 2026-11-29T08:00:00+01:00") from error
    raise BadOrders(f"{text} has no time zone; add the offset: {text}+01:00, or Z for UTC")


def instant_text(at_ms: int) -> str:
    """A date and time as `instant_of` reads it, in UTC."""
    return f"{np.datetime64(at_ms, 'ms')}Z"


def to_toml(level: OrderLevel) -> str:
    """The file of a level. Who may prescribe is no part of a file.

    `parse_toml(to_toml(level))` is the level again.
    """
    order = {
        "level": level.level,
        "name": level.name,
        "by": level.by,
        "why": level.why,
        "from": _time_value(level.valid_from_ms),
        "until": _time_value(level.valid_until_ms),
        "profile": level.profile or "",
    }
    tables = [_table_text("order", order)]
    watch = {
        "expected": None if level.expected is None else [sign.value for sign in level.expected],
        "cadence": {sign.value: duration_text(ms) for sign, ms in level.cadence_ms.items()},
        "valid": {sign.value: duration_text(ms) for sign, ms in level.valid_ms.items()},
        "stale_after": None if level.stale_after_ms is None else duration_text(level.stale_after_ms),
        "lost_after": None if level.lost_after_ms is None else duration_text(level.lost_after_ms),
    }
    tables.append(_table_text("watch", watch))
    if level.spo2_scale is not None:
        spo2: dict[str, Any] = {"scale": level.spo2_scale}
        if level.prescription is not None:
            given = level.prescription
            spo2 |= {"prescribed_by": given.by, "prescribed_at": _time_value(given.at_ms), "why": given.why}
        tables.append(_table_text("spo2", spo2))
    tables.append(_table_text("call", level.calls))
    if level.quiet is not None and level.quiet.from_minute != level.quiet.to_minute:
        hours = (level.quiet.from_minute, level.quiet.to_minute)
        tables.append(_table_text("quiet", dict(zip(("from", "to"), map(minute_text, hours), strict=True))))
    names = {activity: name for name, activity in _ACTIVITIES.items()}
    explains = None if level.holds_up_to is None else names.get(level.holds_up_to)
    tables.append(_table_text("activity", {"explains": explains, "learns": level.learns_by_activity}))
    own = {rule.rule_id for rule in level.conditions}
    tables += [_rule_text(rule_id, change) for rule_id, change in level.rules.items() if rule_id not in own]
    tables += [_condition_text(rule, level.rules.get(rule.rule_id)) for rule in level.conditions]
    is_off = level.quiet is not None and level.quiet.from_minute == level.quiet.to_minute
    return ('quiet = "off"\n\n' if is_off else "") + "\n".join(table for table in tables if table)


def _rule_text(rule_id: str, change: RuleChange) -> str:
    quantity = _QUANTITY_OF.get(rule_id, "")
    limits = {
        priority.name.lower(): OFF if limit is None else limit_in(quantity, limit)
        for priority, limit in change.thresholds()
    }
    rest = {
        "delay": None if change.for_ms is None else duration_text(change.for_ms),
        "clear_margin": change.clear_margin,
        "clear_after": None if change.clear_for_ms is None else duration_text(change.clear_for_ms),
        "clear_count": change.clear_count,
        "latching": change.latching,
        "enabled": change.enabled,
        "call": change.call,
    }
    return _table_text(f"rule.{rule_id}", limits | rest, may_be_empty=True)


def _condition_text(rule: Rule, change: RuleChange | None) -> str:
    said: dict[str, Any] = {
        "name": rule.rule_id.removeprefix(CONDITION_PREFIX),
        "label": rule.label,
        "priority": rule.limits[0].priority.name.lower(),
        "delay": duration_text(rule.for_ms),
        "clear_after": duration_text(rule.clear_for_ms),
        "clear_count": rule.clear_count,
        "latching": rule.latching,
        "call": None if change is None else change.call,
    }
    if rule.trend is None:
        said["all"] = [
            f"{one.quantity} {one.comparison} {limit_in(one.quantity, one.threshold)}" for one in rule.all_of
        ]
        said["margin"] = {one.quantity: one.clear_margin for one in rule.all_of}
        return _table_text("condition", said, is_listed=True)
    trend = rule.trend
    name = ("fall" if trend.falls else "rise") + ("_percent" if trend.in_percent else "")
    said["clear_margin"] = rule.clear_margin
    change_of = {"sign": trend.sign, name: rule.limits[0].threshold, "over": duration_text(trend.over_ms)}
    return _table_text("condition", said, is_listed=True) + _table_text("condition.trend", change_of)


def _table_text(name: str, rows: Mapping[str, Any], *, is_listed: bool = False, may_be_empty: bool = False) -> str:
    said = [f"{key} = {_value(value)}\n" for key, value in rows.items() if value not in (None, "", {})]
    head = f"[[{name}]]\n" if is_listed else f"[{name}]\n"
    return head + "".join(said) if said or may_be_empty else ""


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is one of TOML but for DEL, which TOML wants escaped.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, _Instant):
        return instant_text(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


class _Instant(int):
    """Milliseconds since 1970, to be written as a date and time."""


def _time_value(at_ms: int | None) -> int | None:
    return None if at_ms is None else _Instant(at_ms)


def _fields_of(table: Any, at: str) -> tuple[str, ...]:
    if ".trend" in at:
        table = TrendTable
    return tuple(msgspec.structs.fields(table)[place].encode_name for place in range(len(table.__struct_fields__)))


def _did_you_mean(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _listed(names: Any) -> str:
    return ", ".join(names)

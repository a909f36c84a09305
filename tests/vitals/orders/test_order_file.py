"""Orders as files: what is written is read again, and whatever is wrong names file, key and fix."""

import tomllib
from contextlib import suppress
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vitals.orders.made_up import UNHURRIED, levels
from vitals.messages import Priority
from vitals.orders import PROFILES, BadOrders, OrderLevel, QuietHours, RuleChange, parse_toml, schema, to_toml
from vitals.orders.order_file import instant_of
from vitals.rules import DEFAULT_RULES, Term, Trend
from vitals.signs import VitalSign

EXAMPLE = """
[order]
level = "patient"
by = "dr.meyer"
why = "hypercapnic failure, confirmed"
from = 2026-11-29T08:00:00+01:00
until = 2026-12-03T08:00:00+01:00
profile = "copd"

[watch]
expected = ["heart_rate", "spo2"]
cadence = { systolic_bp = "30 min" }
valid = { heart_rate = "30 s" }
stale_after = "5 min"
lost_after = "15 min"

[spo2]
scale = 2
prescribed_by = "Dr. Meyer"
prescribed_at = 2026-11-28T10:00:00Z
why = "blood gas of 28 November"

[rule.low_spo2]
medium = 87
high = "84 %"
delay = "15 s"
clear_margin = 1
clear_after = "2 min"
call = "nurse-now"

[rule.sensor_off]
low = "off"
medium = "5 min"

[call]
low = "observe"

[quiet]
from = "22:00"
to = "07:00"

[[condition]]
name = "fever"
all = ["heart_rate >= 110", "temperature ≥ 38.3 °C", "consciousness >= C"]
priority = "high"
delay = "5 min"
call = "crash-team"

[[condition]]
name = "rising"
[condition.trend]
sign = "heart_rate"
rise_percent = 20
over = "60 min"
"""


def order(rest: str) -> str:
    return f'[order]\nlevel = "patient"\n{rest}'


def condition(rest: str) -> str:
    return order(f'[[condition]]\nname = "x"\n{rest}')


def trend(sign: str, over: str, change: str = "") -> str:
    return condition(f'[condition.trend]\nsign = "{sign}"\nover = "{over}"\n{change}')


def test_a_file_says_what_it_says() -> None:
    level = parse_toml(EXAMPLE, file="example.toml")

    assert (level.level, level.by, level.profile, level.spo2_scale) == ("patient", "dr.meyer", "copd", 2)
    assert not level.by_prescriber  # known from the account, never from a file
    assert level.valid_until_ms == instant_of("2026-12-03T07:00:00Z")
    assert level.expected == (VitalSign.HEART_RATE, VitalSign.SPO2)
    assert level.cadence_ms == {VitalSign.SYSTOLIC_BP: 1_800_000}
    assert level.rules["low_spo2"] == RuleChange(
        medium=87.0, high=84.0, for_ms=15_000, clear_margin=1.0, clear_for_ms=120_000, call="nurse-now"
    )
    assert level.rules["sensor_off"] == RuleChange(low=None, medium=300_000.0)
    assert level.calls == {"low": "observe"}
    assert level.quiet == QuietHours(1_320, 420)
    fever, rising = level.conditions
    assert fever.all_of == (
        Term("heart_rate", ">=", 110, 5),
        Term("temperature", ">=", 38.3, 0.3),
        Term("consciousness", ">=", 1),
    )
    assert (fever.limits[0].priority, fever.for_ms) == (Priority.HIGH, 300_000)
    assert level.rules["ordered_fever"].call == "crash-team"
    assert rising.trend == Trend("heart_rate", 3_600_000)
    assert (rising.limits[0].threshold, rising.clear_margin) == (20, 5)


@UNHURRIED
@given(levels())
def test_what_is_written_is_read_again(level: OrderLevel) -> None:
    assert parse_toml(to_toml(level)) == level


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_written_down(name: str) -> None:
    assert parse_toml(to_toml(PROFILES[name])) == PROFILES[name]


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.rule_id)
def test_every_default_rule_can_be_expressed(rule: Any) -> None:
    limits: dict[str, Any] = {limit.priority.name.lower(): limit.threshold for limit in rule.limits}
    off = {name: None for name in ("low", "medium", "high") if name not in limits}
    change = RuleChange(
        **limits | off,
        for_ms=rule.for_ms,
        clear_margin=float(rule.clear_margin),
        clear_for_ms=rule.clear_for_ms,
        clear_count=rule.clear_count,
        latching=rule.latching,
        enabled=rule.enabled,
    )
    level = parse_toml(to_toml(OrderLevel(level="site", rules={rule.rule_id: change})))

    blank = msgspec.structs.replace(
        rule, limits=(), for_ms=1, clear_margin=1.0, clear_for_ms=1, enabled=not rule.enabled
    )
    assert level.rules[rule.rule_id].applied(blank) == rule


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("", "order", "is missing; begin with `[order]`"),
        ('[order]\nlevel = "doctor"', "order.level", "Invalid enum value 'doctor'"),
        ('[order]\nlevl = "patient"', "order.levl", "unknown key; did you mean level?"),
        (order('[wach]\nexpected = ["spo2"]'), "wach", "unknown table; did you mean watch?"),
        (order("[rule.low_sp02]\nhigh = 80"), "rule.low_sp02", "unknown rule; did you mean low_spo2?"),
        (order("[rule.low_spo2]\nhgh = 80"), "rule.low_spo2.hgh", "did you mean high?"),
        (order("[rule.low_spo2]\nby_prescriber = true"), "rule.low_spo2.by_prescriber", "unknown key"),
        ('[order]\nlevel = "patient"\nby_prescriber = true', "order.by_prescriber", "unknown key"),
        (order("[rule.low_spo2]\nhigh = 80\nhigh = 70"), "", "a key may stand only once"),
        (order("[rule.low_spo2]\nhigh = 80\n[rule.low_spo2]\nhigh = 70"), "", "a key may stand only once"),
        (order("[rule.low_spo2]\ndelay = 15"), "rule.low_spo2.delay", 'a time with its unit in quotes'),
        (order('[rule.low_spo2]\ndelay = "15"'), "rule.low_spo2.delay", '"15 s"'),
        (order('[rule.low_spo2]\ndelay = "15 fortnights"'), "rule.low_spo2.delay", '"15 s"'),
        (order("[rule.low_spo2]\nclear_margin = nan"), "rule.low_spo2.clear_margin", "a number that is 0 or more"),
        (order("[rule.low_spo2]\nhigh = nan"), "rule.low_spo2.high", "limits are 40 to 100 %"),
        (order("[rule.sensor_off]\nlow = 60"), "rule.sensor_off.low", '"1 min"'),
        (order('[watch]\nexpected = ["pulse"]'), "watch.expected", "unknown sign 'pulse'; known are heart_rate"),
        (order('[watch]\nexpected = ["consciousness"]'), "watch.expected", "is entered by people"),
        (order('[watch]\ncadence = { spo2 = "0 s" }'), "watch.cadence.spo2", "at least 1 s"),
        (order("[spo2]\nscale = 3"), "spo2.scale", "Invalid enum value 3"),
        (order('[spo2]\nscale = 2\nprescribed_by = "x"'), "spo2", "prescribed_by, prescribed_at and why"),
        (order('[call]\nhigh = "Nurse Now!"'), "call.high", "no name of a ladder"),
        (order('[call]\nurgent = "x"'), "call.urgent", "unknown key; known are high, medium, low, technical"),
        (order('[quiet]\nfrom = "22"\nto = "7:00"'), "quiet.from", '"22:00"'),
        (order('[quiet]\nfrom = "22:00"\nto = "22:00"'), "quiet", 'write quiet = "off"'),
        (order('[quiet]\nfrom = "22:00"\nto = "7:00"\npriority = "high"'), "quiet.priority", "have no quiet hours"),
        ('quiet = "always"\n[order]\nlevel = "patient"', "quiet", 'or quiet = "off"'),
        ('[order]\nlevel = "patient"\nuntil = 2026-11-29T08:00:00', "order.until", "add the offset: 2026-11-29T08:"),
        ('[order]\nlevel = "patient"\nuntil = 2026-11-29', "order.until", "2026-11-29T08:00:00+01:00"),
        ('[order]\nlevel = "patient"\nuntil = "tomorrow"', "order.until", "write it as 2026-11-29T08:00:00+01:00"),
        ('[order]\nlevel = "patient"\nuntil = 5', "order.until", "Expected"),
        (order('[[condition]]\nname = "x"'), "condition.x", "give either"),
        (order('[[condition]]\nname = "X y"\nall = ["spo2 <= 90"]'), "condition.X y.name", "small letters"),
        (condition('all = ["hr >= 90"]'), "condition.x.all", "unknown sign 'hr'"),
        (condition('all = ["heart_rat >= 90"]'), "condition.x.all", "did you mean heart_rate?"),
        (condition('all = ["spo2 < 90"]'), "condition.x.all", "write >= or <="),
        (condition('all = ["spo2"]'), "condition.x.all", "is no comparison"),
        (condition('all = "spo2 <= 90"'), "condition.x.all", "write a list of comparisons"),
        (order('[condition]\nname = "x"'), "condition", "`[[condition]]`"),
        (condition('all = ["spo2 <= 90"]\nmargin = { heart_rate = 5 }'), "condition.x.margin.heart_rate", "not among"),
        (trend("heart_rate", "1 h"), "condition.x.trend", "give one of rise_percent"),
        (trend("heart_rate", "5 h", "rise = 20"), "condition.x.trend.over", "5 min to 4 h"),
        (trend("consciousness", "1 h", "rise = 1"), "condition.x.trend.sign", "has no trend"),
        (trend("heart_rate", "1 h", "rise_percent = -5"), "condition.x.trend.rise_percent", "above 0"),
        (order('[rule.ordered_x]\nhigh = 5'), "rule.ordered_x", "write it again whole"),
        ("[order\n", "", "is no valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_file_key_and_fix(text: str, key: str, said: str) -> None:
    with pytest.raises(BadOrders) as refused:
        parse_toml(text, file="orders/3b.toml")

    assert refused.value.file == "orders/3b.toml"
    assert refused.value.key == key
    assert said in refused.value.problem
    assert str(refused.value).startswith(f"orders/3b.toml: {key}" if key else "orders/3b.toml: ")


@pytest.mark.parametrize(
    ("where", "limit", "said"),
    [
        ("rule.danger_high_temperature", "98.6", "98.6 looks like °F, not °C; probably meant: 37.0 °C"),
        (
            "rule.danger_high_temperature",
            '"98.6 °F"',
            "98.6 °F is in °F, temperature is in °C; probably meant: 37.0 °C",
        ),
        ("rule.danger_high_temperature", "310", "looks like kelvin, not °C; probably meant: 36.9 °C"),
        ("rule.danger_high_temperature", "385", "looks like tenths of a degree, not °C; probably meant: 38.5 °C"),
        ("rule.low_spo2", "0.88", "looks like a fraction of 1, not %; probably meant: 88 %"),
        ("rule.danger_systolic_bp", "12", "looks like kPa, not mmHg; probably meant: 90 mmHg"),
        ("rule.danger_systolic_bp", '"12 kPa"', "is in kPa, systolic_bp is in mmHg; probably meant: 90 mmHg"),
        ("rule.high_heart_rate", "2.5", "looks like beats per second, not /min; probably meant: 150 /min"),
        ("rule.battery", "0.15", "looks like a fraction of 1, not %; probably meant: 15 %"),
        ("rule.high_heart_rate", '"150 °C"', "unknown unit '°C'; heart_rate is in /min"),
        ("rule.news2", "50", "50 is no limit of news2; limits are 1 to 20"),
        ("rule.no_data", "2.5", "is no state"),
        (
            "condition",
            "glucose >= 180",
            "glucose is recorded and not judged; besides, 180 looks like mg/dL, not mmol/L",
        ),
        ("condition", "glucose >= 180", "probably meant: 10.0 mmol/L"),
        ("condition", "glucose >= 10 mmol/L", "glucose is recorded and not judged"),
        ("condition", "inspired_oxygen >= 0.4", "looks like a fraction of 1, not %; probably meant: 40 %"),
        ("condition", "temperature >= 100.9", "looks like °F, not °C; probably meant: 38.3 °C"),
        ("condition", "supplemental_oxygen >= 2000 mL/min", "probably meant: 2 L/min"),
    ],
)
def test_a_limit_in_another_unit_is_refused_with_what_was_probably_meant(where: str, limit: str, said: str) -> None:
    table = f'[[condition]]\nname = "x"\nall = ["{limit}"]' if where == "condition" else f"[{where}]\nhigh = {limit}"

    with pytest.raises(BadOrders) as refused:
        parse_toml(order(table))

    assert said in refused.value.problem


PIECES = st.sampled_from([*EXAMPLE.splitlines(), *'[]{}=",.', "[[", "-1", "1e999", "nan", "0x0", "true", "1979-05-27"])


@UNHURRIED
@given(st.lists(PIECES | st.text(max_size=10), max_size=30).map("\n".join))
def test_a_spoilt_file_raises_nothing_but_bad_orders(text: str) -> None:
    with suppress(BadOrders):
        parse_toml(text, file="x")


@UNHURRIED
@given(
    st.sampled_from([line for line in EXAMPLE.splitlines() if " = " in line]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_a_value_of_any_type_raises_nothing_but_bad_orders(line: str, value: Any) -> None:
    key = line.split(" = ")[0]
    with suppress(BadOrders):
        parse_toml(EXAMPLE.replace(line, f"{key} = {_toml(value)}", 1))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{msgspec.json.encode(key).decode()} = {_toml(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return msgspec.json.encode(value).decode() if isinstance(value, str) else str(value)


def test_the_schema_accepts_the_example_and_refuses_a_typing_error() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    said = _with_text_dates(tomllib.loads(EXAMPLE))

    assert [error.message for error in validator.iter_errors(said)] == []
    assert list(validator.iter_errors(said | {"rul": {}}))
    assert list(validator.iter_errors(said | {"rule": {"low_spo2": {"hgh": 80}}}))


def _with_text_dates(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _with_text_dates(one) for key, one in raw.items()}
    if isinstance(raw, list):
        return [_with_text_dates(one) for one in raw]
    return raw.isoformat() if hasattr(raw, "isoformat") else raw

"""Input features of the heart models: 13 clinic attributes, or the five that are known at home.

Pure: training and the edge call the same function. A missing value is marked and never imputed; the hospital is not an
attribute. Attributes and codes are those of the UCI heart disease data set (Janosi, Steinbrunn, Pfisterer, Detrano,
1989, doi 10.24432/C52P4X).
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from models.errors import NoSuchAttribute


class Form(StrEnum):
    """The set of attributes that a model uses."""

    CLINIC = "clinic"
    HOME = "home"


class Attribute(NamedTuple):
    """One attribute of a patient.

    Args:
        codes: codes of a categorical attribute, in order; empty for a number.
        plausible: inclusive range of a number; a value outside it counts as missing, such as a 0 that means "not
            measured".
        at_home: known without an exercise test, a laboratory or a scan.
    """

    name: str
    unit: str
    codes: tuple[int, ...] = ()
    plausible: tuple[float, float] = (-math.inf, math.inf)
    at_home: bool = False


ATTRIBUTES: Final = (
    Attribute("age", "years", plausible=(1, 120), at_home=True),
    Attribute("sex", "1 male, 0 female", codes=(0, 1), at_home=True),
    Attribute("cp", "1 typical angina, 2 atypical, 3 non-anginal, 4 none", codes=(1, 2, 3, 4), at_home=True),
    Attribute("trestbps", "mmHg at rest", plausible=(40, 300), at_home=True),
    Attribute("chol", "mg/dL", plausible=(50, 998)),
    Attribute("fbs", "1 fasting blood sugar above 120 mg/dL", codes=(0, 1)),
    Attribute("restecg", "0 normal, 1 ST-T abnormality, 2 hypertrophy", codes=(0, 1, 2), at_home=True),
    Attribute("thalach", "maximum heart rate, /min", plausible=(20, 300)),
    Attribute("exang", "1 angina on exercise", codes=(0, 1)),
    Attribute("oldpeak", "ST depression, mm", plausible=(-5, 15)),
    Attribute("slope", "slope of ST: 1 up, 2 flat, 3 down", codes=(1, 2, 3)),
    Attribute("ca", "vessels seen, 0 to 3", codes=(0, 1, 2, 3)),
    Attribute("thal", "3 normal, 6 fixed, 7 reversible", codes=(3, 6, 7)),
)


def is_known(one: Attribute, value: float | None) -> bool:
    """Whether a value is a possible one of the attribute: not absent, not NaN, a known code, within the range."""
    if value is None or not one.plausible[0] <= value <= one.plausible[1]:
        return False
    return not one.codes or value in one.codes


_KNOWN: Final = {one.name for one in ATTRIBUTES}


def attributes_of(form: Form) -> tuple[Attribute, ...]:
    """The attributes of a form, in order."""
    return tuple(one for one in ATTRIBUTES if form is Form.CLINIC or one.at_home)


def names_of(form: Form) -> tuple[str, ...]:
    """The feature names of a form, in order.

    A number gives its value and a flag "missing"; a categorical attribute one flag for each code and a flag "missing".

    >>> names_of(Form.HOME)[:5]
    ('age', 'age missing', 'sex=0', 'sex=1', 'sex missing')
    """
    return tuple(name for one in attributes_of(form) for name in _names(one))


def features(form: Form, patient: Mapping[str, float | None]) -> list[float]:
    """Features of one patient, in the order of `names_of`.

    Args:
        patient: values by attribute. Absent, None, NaN, an unknown code and an implausible number all mean missing.

    Returns:
        64-bit floats, none of them NaN: a missing number is 0 with its flag set, and the scaler leaves it at 0.

    Raises:
        NoSuchAttribute: a name that is not one of the 13 attributes; the hospital is not one of them.

    >>> features(Form.HOME, {"age": 63, "sex": 1})[:5]
    [63.0, 0.0, 0.0, 1.0, 0.0]
    """
    for name in patient:
        if name not in _KNOWN:
            raise NoSuchAttribute(name, known=tuple(one.name for one in ATTRIBUTES))
    found: list[float] = []
    for one in attributes_of(form):
        value = patient.get(one.name)
        known = value is not None and is_known(one, value)
        if one.codes:
            found += [*(float(known and value == code) for code in one.codes), float(not known)]
        else:
            found += [float(value) if known and value is not None else 0.0, float(not known)]
    return found


def _names(one: Attribute) -> tuple[str, ...]:
    if one.codes:
        return (*(f"{one.name}={code}" for code in one.codes), f"{one.name} missing")
    return one.name, f"{one.name} missing"

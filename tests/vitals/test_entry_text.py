"""What people type at the bed: read as they mean it, or asked again."""

import pytest

from vitals.entry_text import ask, minutes_of
from vitals.errors import BadEntry


@pytest.mark.parametrize(("text", "minutes"), [("20m", 20), ("20", 20), ("1h", 60), ("2h", 120), ("20min", 20)])
def test_minutes_are_written_as_people_write_them(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "0m", "3h", "-5m", "m", "20 s", "1.5h", "³m"])
def test_what_are_no_minutes_is_refused(text: str) -> None:
    with pytest.raises(BadEntry, match="off for"):
        minutes_of(text)


def test_a_person_is_asked_again_until_the_value_can_be_right() -> None:
    said: list[str] = []
    lines = iter(
        ["X", "c", "", "0.97", "97", "40%", "venturi mask", "76/118", "118/76", "", "98.6", "37.2", "", "20m", ""]
    )

    found = ask(lambda _: next(lines), said.append)

    assert found == {
        "consciousness": "C",
        "spo2": 97.0,
        "inspired_oxygen": 40.0,
        "oxygen_device": "venturi mask",
        "systolic_bp": 118.0,
        "diastolic_bp": 76.0,
        "temperature": 37.2,
        "off_minutes": 20,
    }
    assert any("98.6" in line and "°F" in line for line in said)
    assert any("exchanged" in line for line in said)


def test_a_person_who_enters_nothing_enters_nothing() -> None:
    with pytest.raises(BadEntry, match="nothing"):
        ask(lambda _: "", lambda _: None)

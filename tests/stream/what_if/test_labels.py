"""A list of deteriorations as hospitals export it."""

from pathlib import Path

import pytest

from stream.errors import WhatIfRefused
from stream.what_if.labels import moment, read_labels


def test_times_are_read_with_their_zone(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("Patient, Time ,unit\np1,2026-11-29T09:00+01:00,7\np1,2026-11-29 07:00,7\np2,1795939200000,7\n")

    assert read_labels(file) == {"p1": (1_795_935_600_000, 1_795_939_200_000), "p2": (1_795_939_200_000,)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("patient;time\np1;2026-11-29\n", "needs the columns patient,time"),
        ("patient,time\np1,yesterday\n", "row 2: 'yesterday' is no time"),
        ("patient,time\np1\n", "row 2: '' is no time"),
        ("", "needs the columns"),
    ],
)
def test_a_list_that_cannot_be_used_names_the_row(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(content)

    with pytest.raises(WhatIfRefused, match=says):
        read_labels(file)


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(b"\xff\xfe\x00\x01")

    with pytest.raises(WhatIfRefused, match="cannot be read as CSV"):
        read_labels(file)


def test_a_moment_without_a_zone_is_utc() -> None:
    assert moment("2026-11-29T08:00", place="--from") == 1_795_939_200_000

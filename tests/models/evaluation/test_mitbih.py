"""The MIT-BIH evaluation: windows of long recordings by person, compared with annotations."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.evaluation.mitbih import by_subject
from models.evaluation.report import Interval
from models.rhythm import RhythmModel
from tests.models.made_up import heartbeat_mv, released

RATE_HZ, SECONDS = 360, 90


def recordings(folder: Path, spans: list[tuple[str, int, int, str]]) -> Path:
    """Three people: regular rhythm, fibrillation from the second window on, and a paced record."""
    folder.mkdir()
    parts = {
        "100": [False, False, False],
        "203": [False, True, True],
        "102": [True, True, True],
    }
    waves = {
        name: np.concatenate(
            [heartbeat_mv(irregular=one, seconds=30, rate_hz=RATE_HZ, seed=at) for at, one in enumerate(these)]
        )
        for name, these in parts.items()
    }
    signal = pa.array([np.round(wave * 200 + 1024).astype(np.int16).tolist() for wave in waves.values()])
    columns = {"record": list(waves), "subject": [f"s{name}" for name in waves], "fs": [RATE_HZ] * 3}
    levels = {"adc_per_mv": [200.0] * 3, "adc_zero": [1024] * 3}
    pq.write_table(pa.table({**columns, **levels, "signal": signal}), folder / "ecg_dev.parquet")
    table = dict(zip(("record", "start", "end", "rhythm"), map(list, zip(*spans, strict=True)), strict=True))
    pq.write_table(pa.table(table), folder / "rhythms_dev.parquet")
    return folder


def test_every_person_has_a_row_except_those_with_paced_records(tmp_path: Path) -> None:
    half = 30 * RATE_HZ
    spans = [("100", 0, 3 * half, "N"), ("203", 0, half, "N"), ("203", half, 3 * half, "AFIB")]
    folder = recordings(tmp_path / "mitbih", spans)

    (table,) = by_subject(folder, RhythmModel(released("rhythm")), lambda _: None)

    everyone, steady, ill = table.rows
    assert (everyone[1], everyone[2]) == ("6", "2")
    assert (steady[:3], steady[3]) == (["s100", "3", "0"], None)
    assert ill[:3] == ["s203", "3", "2"]
    assert steady[4] == 0.0
    assert ill[3] == pytest.approx(1.0)
    assert isinstance(everyone[5], Interval)
    assert everyone[5].value == pytest.approx(1.0)
    assert "0 mixed windows" in table.note


def test_a_mixed_window_is_excluded_and_counted(tmp_path: Path) -> None:
    half = 30 * RATE_HZ
    spans = [("100", 0, 3 * half, "N"), ("203", half // 2, 3 * half, "AFIB")]
    folder = recordings(tmp_path / "mitbih", spans)

    (table,) = by_subject(folder, RhythmModel(released("rhythm")), lambda _: None)

    assert table.rows[0][1] == "5"
    assert "1 mixed windows" in table.note

"""`vitalloom score`: adds scores to a spreadsheet, names invalid cells, leaves no partial files."""

import csv
import io
import os
import re
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import spreadsheet
from models.errors import BadPatientFile, BadUnit, FileRefused, ModelsError
from models.spreadsheet import COLUMNS, RESULTS, Summary, score_file
from tests.models.reference_scores import reference_scores
from vitals.signs import SPEC, VitalSign

HEADER = "respiratory_rate,spo2,spo2_scale,supplemental_oxygen,systolic_bp,heart_rate,consciousness,temperature"
CALM = "16,97,1,0,120,70,A,37.0"
ILL = "26,91,1,0,120,95,A,37.0"


class Scored:
    """The result of scoring one file."""

    def __init__(self, raw: str, summary: Summary, delimiter: str) -> None:
        self.raw = raw
        self.summary = summary
        self.rows = list(csv.DictReader(io.StringIO(raw.removeprefix("\ufeff"), newline=""), delimiter=delimiter))


Run: TypeAlias = Callable[..., Scored]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def scored(*lines: str | bytes, end: str = "\n", delimiter: str = ",") -> Scored:
        source = tmp_path / "vitals.csv"
        source.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + end.encode() for x in lines))
        out = io.StringIO(newline="")
        summary = score_file(source, out)
        return Scored(out.getvalue(), summary, delimiter)

    return scored


def row(**cells: str) -> str:
    """A calm row with some cells changed."""
    given = dict(zip(COLUMNS, CALM.split(","), strict=True)) | cells
    return ",".join(given[name] for name in COLUMNS)


def results(scored: Scored, number: int = 0) -> list[str]:
    return [scored.rows[number][name] for name in RESULTS]


def test_a_complete_row_gets_every_score(run: Run) -> None:
    scored = run(HEADER, ILL)

    assert scored.raw.splitlines() == [
        HEADER + ",news2,news2_at_least,news2_missing,news2_risk,qsofa,sirs,mews,shock_index,news2_note",
        ILL + ",7,7,,high,1,2,2,0.79,",
    ]


def test_an_empty_cell_counts_as_not_measured(run: Run) -> None:
    scored = run(HEADER, row(spo2="", temperature=" ", respiratory_rate="26"))

    assert results(scored) == ["", "3", "spo2+temperature", ">= low-medium", "1", "", "", "0.58", ""]
    assert scored.summary.incomplete == 1


def test_the_shock_index_is_empty_without_a_pressure(run: Run) -> None:
    assert run(HEADER, row(systolic_bp="")).rows[0]["shock_index"] == ""


def test_an_empty_scale_is_scale_1(run: Run) -> None:
    on_oxygen = {"spo2": "97", "supplemental_oxygen": "1"}

    scored = run(
        HEADER, row(spo2_scale="", **on_oxygen), row(spo2_scale="1", **on_oxygen), row(spo2_scale="2", **on_oxygen)
    )

    assert [r["news2"] for r in scored.rows] == ["2", "2", "5"]


def test_empty_oxygen_is_missing_and_not_air(run: Run) -> None:
    scored = run(HEADER, row(supplemental_oxygen=""))

    assert results(scored)[:3] == ["", "0", "supplemental_oxygen"]


@pytest.mark.parametrize(("letter", "points"), [("A", 0), ("C", 3), ("V", 3), ("P", 3), ("U", 3), ("c", 3), (" a ", 0)])
def test_consciousness(run: Run, letter: str, points: int) -> None:
    assert run(HEADER, row(consciousness=letter)).rows[0]["news2"] == str(points)


def test_other_columns_are_copied_unchanged_in_any_order(run: Run) -> None:
    scored = run(
        "id,Temperature, SpO2 ,spo2_scale,note,supplemental_oxygen,systolic_bp,heart_rate,consciousness,"
        "respiratory_rate,",
        '007,37.0,97,,"said ""well"", slept\nlong",0,120,70,A,16,x',
    )

    assert scored.rows[0]["id"] == "007"
    assert scored.rows[0]["note"] == 'said "well", slept\nlong'
    assert scored.rows[0]["Temperature"] == "37.0"
    assert scored.rows[0]["news2"] == "0"


def test_alternative_spellings_of_numbers_are_accepted(run: Run) -> None:
    scored = run(HEADER, row(spo2_scale="2.0", supplemental_oxygen="1.0", spo2="97.0", heart_rate="+70"))

    assert scored.rows[0]["news2"] == "5"


def test_values_are_rounded_half_up_before_they_are_scored(run: Run) -> None:
    scored = run(HEADER, row(temperature="36.05"), row(temperature="36.04"))

    assert [r["news2"] for r in scored.rows] == ["0", "1"]


def test_shock_index_is_rounded_half_up(run: Run) -> None:
    assert run(HEADER, row(heart_rate="25", systolic_bp="200")).rows[0]["shock_index"] == "0.13"


@pytest.mark.parametrize(
    ("delimiter", "written", "expected"),
    [(";", "37,0", "0,58"), (";", "37.0", "0.58"), (";", "37", "0,58"), ("\t", "37,0", "0,58"), ("\t", "37.0", "0.58")],
)
def test_european_files_keep_delimiter_and_decimal_mark(run: Run, delimiter: str, written: str, expected: str) -> None:
    line = row(temperature="T").replace(",", delimiter).replace("T", written)

    scored = run(HEADER.replace(",", delimiter), line, delimiter=delimiter)

    assert scored.rows[0]["shock_index"] == expected
    assert scored.raw.splitlines()[1] == delimiter.join((line, "0", "0", "", "low", "0", "0", "1", expected, ""))


def test_byte_order_mark_and_windows_line_ends_are_kept(run: Run) -> None:
    scored = run("\ufeff" + HEADER, CALM, end="\r\n")

    assert scored.raw.startswith("\ufeffrespiratory_rate")
    assert scored.raw.count("\ufeff") == 1
    assert scored.raw.count("\r\n") == scored.raw.count("\n") == 2
    assert scored.rows[0]["news2"] == "0"


def test_a_file_without_byte_order_mark_and_with_unix_line_ends_is_written_alike(run: Run) -> None:
    scored = run(HEADER, CALM)

    assert "\r" not in scored.raw
    assert scored.raw[0] == "r"


def test_a_last_line_without_a_line_end_is_scored(tmp_path: Path) -> None:
    source = tmp_path / "vitals.csv"
    source.write_text(f"{HEADER}\n{CALM}", encoding="utf-8")

    assert score_file(source, io.StringIO()).rows == 1


def test_empty_rows_are_left_out_and_counted(run: Run) -> None:
    scored = run(HEADER, CALM, "", ",,,,,,,", ILL, "")

    assert msgspec.structs.replace(scored.summary, file={}) == Summary(
        rows=2, incomplete=0, empty=3, by_risk={"low": 1, "low-medium": 0, "medium": 0, "high": 1}
    )
    assert scored.summary.text == (
        "2 rows scored, 0 of them incomplete; NEWS2 risk: low 1, low-medium 0, medium 0, high 1; 3 empty rows left out"
    )


def test_a_file_with_only_a_header_is_accepted(run: Run) -> None:
    assert run(HEADER).summary.rows == 0


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("temperature", "98.6", "looks like °F; convert it to °C, or say --unit temperature=°F"),
        ("temperature", "371", "looks like 0.1°C; convert it to °C, or say --unit temperature=0.1°C"),
        ("temperature", "37,0", "no number; give a number from 9 to 47 (°C)"),  # quoted in a file with commas
        ("heart_rate", "inf", "no number"),
        ("heart_rate", "-70", "not allowed; give a number from 0 to 500 (/min)"),
        ("heart_rate", "7_0", "no number"),
        ("heart_rate", "٧٠", "no number"),
        ("heart_rate", "70 bpm", "no number"),
        ("respiratory_rate", "151", "not allowed; give a number from 0 to 120"),
        ("spo2", "100.1", "not allowed; give a number from 0 to 100 (%)"),
        ("spo2", "0.97", "looks like fraction; convert it to %, or say --unit spo2=fraction"),
        ("systolic_bp", "120/80", "no number; give a number from 0 to 500 (mmHg)"),
        ("supplemental_oxygen", "2", "not allowed; give 0 (air) or 1 (oxygen)"),
        ("supplemental_oxygen", "air", "not allowed; give 0 (air) or 1 (oxygen)"),
        ("consciousness", "X", "not allowed; give A, C, V, P or U"),
        ("consciousness", "0", "not allowed; give A, C, V, P or U"),
        ("consciousness", "Alert", "not allowed; give A, C, V, P or U"),
    ],
)
def test_a_bad_cell_counts_as_not_measured_and_is_named_with_what_is_allowed(
    run: Run, column: str, value: str, reason: str
) -> None:
    scored = run(HEADER, ILL, "", row(**{column: f'"{value}"'}), ILL)

    assert [one["news2"] for one in scored.rows] == ["7", "", "7"]
    assert scored.rows[1]["news2_missing"] == column
    assert scored.rows[1]["news2_note"].startswith(f"{column} {value!r} refused: {reason}")
    assert f"column {column}: 1 of 3 values not scored: {reason}" in scored.summary.text
    assert f"(row 4: {value!r})" in scored.summary.text


@pytest.mark.parametrize("value", ["3", "1.5", "x"])
def test_without_its_scale_a_saturation_is_not_scored(run: Run, value: str) -> None:
    scored = run(HEADER, row(spo2_scale=value, spo2="85"))

    assert scored.rows[0]["news2_missing"] == "spo2"
    assert "spo2_scale" in scored.rows[0]["news2_note"]


@pytest.mark.parametrize("value", ["NA", "n/a", "nan", "null", "?", "-", "-9", "-1", "999", "-999", " "])
def test_codes_for_not_measured_are_read_as_empty_cells(run: Run, value: str) -> None:
    scored = run(HEADER, row(temperature=value), row(temperature=""))

    assert results(scored, 0) == results(scored, 1)


@pytest.mark.parametrize(
    ("cells", "news2"),
    [
        ({"spo2": "48", "supplemental_oxygen": "1", "heart_rate": "110", "consciousness": "V"}, "9"),
        ({"respiratory_rate": "0", "consciousness": "U", "heart_rate": "50"}, "7"),
        ({"temperature": "13.7"}, "3"),
        ({"heart_rate": "0"}, "3"),
        ({"systolic_bp": "30"}, "3"),
        ({"systolic_bp": "310"}, "3"),
    ],
)
def test_the_sickest_patient_is_scored(run: Run, cells: dict[str, str], news2: str) -> None:
    scored = run(HEADER, row(**cells))

    assert (scored.rows[0]["news2"], scored.rows[0]["news2_note"]) == (news2, "")


def test_pressures_that_cannot_both_be_right_are_not_scored(run: Run) -> None:
    scored = run(HEADER + ",diastolic_bp", row(systolic_bp="70") + ",120", row(systolic_bp="120") + ",70")

    assert [one["news2_missing"] for one in scored.rows] == ["systolic_bp", ""]
    assert "not above diastolic_bp" in scored.rows[0]["news2_note"]


@pytest.mark.parametrize(
    ("about", "reason"),
    [("8,no", "under 16 years"), ("15.9,", "under 16 years"), ("30,yes", "pregnancy"), ("30,1", "pregnancy")],
)
def test_a_child_and_a_pregnant_woman_get_no_adult_score(run: Run, about: str, reason: str) -> None:
    scored = run("age,pregnant," + HEADER, f"{about},{ILL}", f"30,no,{ILL}")

    assert [one["news2"] for one in scored.rows] == ["", "7"]
    assert results(scored)[:-1] == [""] * 8
    assert reason in scored.rows[0]["news2_note"]
    assert (scored.summary.rows, scored.summary.not_adult) == (1, 1)
    assert f"1 row: no score: NEWS2 is not for {'people ' if 'under' in reason else ''}{reason}" in scored.summary.text


@pytest.mark.parametrize("about", ["-1,", "999,no", ",", "300,no", "NA,NA"])
def test_an_unknown_age_does_not_take_the_score_away(run: Run, about: str) -> None:
    assert run("age,pregnant," + HEADER, f"{about},{ILL}").rows[0]["news2"] == "7"


def test_a_unit_that_the_user_says_is_converted_and_counted(tmp_path: Path) -> None:
    source, out = tmp_path / "vitals.csv", io.StringIO()
    source.write_text(f"{HEADER}\n{row(temperature='102.4')}\n", encoding="utf-8")

    summary = score_file(source, out, units=["temperature=F"])

    assert out.getvalue().splitlines()[1].startswith(row(temperature="102.4") + ",2,2,,low,")  # 39.1 °C
    assert "column temperature: 1 of 1 values converted from °F to °C" in summary.text


@pytest.mark.parametrize("unit", ["temperature=lightyears", "horoscope=°F", "temperature", "consciousness=°F"])
def test_an_unknown_unit_is_refused_with_the_known_ones(tmp_path: Path, unit: str) -> None:
    with pytest.raises(BadUnit, match=r"known are .*temperature=°F"):
        score_file(tmp_path / "vitals.csv", io.StringIO(), units=[unit])


def test_the_sep_line_of_a_spreadsheet_program_is_skipped(run: Run) -> None:
    scored = run("sep=;", HEADER.replace(",", ";"), CALM.replace(",", ";"), delimiter=";")

    assert scored.raw.startswith("respiratory_rate;")
    assert scored.rows[0]["news2"] == "0"


def test_notes_use_the_row_number_of_the_spreadsheet(run: Run) -> None:
    scored = run(HEADER + ",note", CALM + ',"two\nlines"', row(spo2="0.3") + ",")

    assert "(row 3: '0.3')" in scored.summary.text


def test_a_very_long_cell_is_shortened(run: Run) -> None:
    scored = run(HEADER, row(spo2="9" * 5_000))

    assert len(scored.summary.text) < 500
    assert len(scored.rows[0]["news2_note"]) < 300


@pytest.mark.parametrize(("line", "count"), [(CALM + ",1", 9), ("16,97,1", 3), (CALM.replace("37.0", "37,0"), 9)])
def test_a_row_with_a_wrong_number_of_cells_is_left_out_and_named(run: Run, line: str, count: int) -> None:
    scored = run(HEADER, CALM, line, ILL)

    assert [one["news2"] for one in scored.rows] == ["0", "7"]
    assert (scored.summary.rows, scored.summary.skipped) == (2, 1)
    assert f"1 row not judged: {count} cells where the header has 8" in scored.summary.text
    assert "(row 3)" in scored.summary.text


def test_an_empty_cell_beyond_the_header_is_ignored(run: Run) -> None:
    assert run(HEADER, CALM + ",").rows[0]["news2"] == "0"


def test_missing_and_unknown_columns_are_named(run: Run) -> None:
    with pytest.raises(BadPatientFile) as refused:
        run(HEADER.replace("spo2,", "").replace("heart_rate", "pulse"), "16,1,0,120,70,A,37.0")

    assert str(refused.value) == (
        "vitals.csv, row 1: the header lacks spo2, heart_rate; unknown columns: 'pulse'; "
        "add the columns and leave cells empty where nothing was measured"
    )


def test_a_duplicate_column_is_named(run: Run) -> None:
    with pytest.raises(BadPatientFile, match="has spo2 more than once"):
        run(HEADER + ",SPO2", CALM + ",97")


def test_other_columns_may_be_duplicated(run: Run) -> None:
    assert run(HEADER + ",note,note", CALM + ",a,b").raw.splitlines()[1].startswith(CALM + ",a,b,")


def test_a_file_that_is_already_scored_is_refused(run: Run) -> None:
    with pytest.raises(BadPatientFile, match="already has news2, news2_risk"):
        run(HEADER + ",news2,news2_risk", CALM + ",0,low")


@pytest.mark.parametrize("lines", [(), ("\ufeff",)])
def test_an_empty_file_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    source = tmp_path / "vitals.csv"
    source.write_text("".join(lines), encoding="utf-8")

    with pytest.raises(BadPatientFile, match="the file is empty; it needs a header: respiratory_rate, spo2"):
        score_file(source, io.StringIO())


def test_an_empty_first_row_is_refused(run: Run) -> None:
    with pytest.raises(BadPatientFile, match="row 1: no header"):
        run("", HEADER, CALM)


def test_utf16_as_spreadsheet_programs_write_it_is_read(tmp_path: Path) -> None:
    source, out = tmp_path / "vitals.txt", io.StringIO(newline="")
    source.write_text(f"{HEADER}\r\n{ILL}\r\n".replace(",", "\t"), encoding="utf-16", newline="")

    score_file(source, out)

    assert out.getvalue().startswith("\ufeffrespiratory_rate\tspo2")
    assert out.getvalue().splitlines()[1].endswith("\t7\t7\t\thigh\t1\t2\t2\t0.79\t")


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        (b'{"resourceType": "Bundle"}', "JSON, such as a FHIR bundle, which no command reads"),
        (b"PAR1", "a Parquet file; this command reads CSV"),
        (b"\x1f\x8b", "a compressed file; unpack it first"),
        (HEADER.encode("utf-16-le"), "UTF-16 without a byte-order mark; save it"),
        (b"HR|O2Sat|ICULOS\n1|2|3\n", "`vitalloom predict sepsis` and `vitalloom ward --replay` read it"),
        (b"Time,SpO2(%),Pulse Rate(bpm)\n1,2,3\n", "an export of a pulse oximeter"),
    ],
)
def test_another_kind_of_file_is_named_with_the_command_that_reads_it(
    tmp_path: Path, start: bytes, problem: str
) -> None:
    source = tmp_path / "file"
    source.write_bytes(start)

    with pytest.raises(BadPatientFile, match=re.escape(problem)):
        score_file(source, io.StringIO())


@pytest.mark.parametrize("lines", [(HEADER, CALM, b"\xff\xfe"), (b"PK\x03\x04\xff",)])
def test_text_that_is_not_utf8_is_refused_with_a_fix(run: Run, lines: tuple[str | bytes, ...]) -> None:
    with pytest.raises(BadPatientFile, match="not UTF-8; save it from the spreadsheet program as 'CSV UTF-8'"):
        run(*lines)


def test_the_error_for_text_that_is_not_utf8_names_the_last_valid_row(run: Run) -> None:
    with pytest.raises(BadPatientFile, match=r"after row \d+ the text is not UTF-8"):
        run(HEADER, *[CALM] * 5_000, b"M\xfcller")


def test_an_unclosed_quotation_mark_is_named(run: Run) -> None:
    with pytest.raises(BadPatientFile, match=r"row 3: broken CSV .* quotation mark that is not closed"):
        run(HEADER, CALM, '"16,97,1,0,120,70,A,37.0', CALM)


def test_an_extremely_long_cell_is_refused(run: Run) -> None:
    with pytest.raises(BadPatientFile):
        run("x" * 200_000, CALM)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"cannot read .*nowhere\.csv: No such file") as refused:
        score_file(tmp_path / "nowhere.csv", io.StringIO())

    assert isinstance(refused.value, ModelsError)


class TestFiles:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "vitals.csv"
        path.write_text(f"{HEADER}\n{ILL}\n", encoding="utf-8")
        return path

    def test_no_temporary_file_remains(self, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = source.with_name("scored.csv")

        assert spreadsheet.main(source, out) == 0

        assert ",7,7,,high," in out.read_text(encoding="utf-8")
        assert sorted(path.name for path in source.parent.iterdir()) == ["scored.csv", "vitals.csv"]
        assert capsys.readouterr().err.startswith("1 row scored, 0 of them incomplete")

    def test_a_failed_run_leaves_the_old_file_and_no_partial_one(self, source: Path) -> None:
        source.write_bytes(f"{HEADER}\n{ILL}\n".encode() + b"\xff\n")
        out = source.with_name("scored.csv")
        out.write_text("yesterday", encoding="utf-8")

        with pytest.raises(BadPatientFile):
            spreadsheet.main(source, out)

        assert out.read_text(encoding="utf-8") == "yesterday"
        assert sorted(path.name for path in source.parent.iterdir()) == ["scored.csv", "vitals.csv"]

    def test_a_file_can_be_scored_in_place_and_keeps_its_mode(self, source: Path) -> None:
        source.chmod(0o600)

        spreadsheet.main(source, source)

        assert ",7,7,,high," in source.read_text(encoding="utf-8")
        assert stat.S_IMODE(source.stat().st_mode) == 0o600

    def test_a_file_with_a_torn_row_is_not_scored_in_place(self, source: Path) -> None:
        source.write_text(f"{source.read_text(encoding='utf-8')}1,2\n", encoding="utf-8")
        before = source.read_bytes()

        with pytest.raises(BadPatientFile, match="would be lost"):
            spreadsheet.main(source, source)

        assert source.read_bytes() == before

    def test_a_symbolic_link_is_kept(self, source: Path) -> None:
        target = source.with_name("target.csv")
        target.write_text("old", encoding="utf-8")
        link = source.with_name("link.csv")
        link.symlink_to(target)

        spreadsheet.main(source, link)

        assert link.is_symlink()
        assert ",7,7,,high," in target.read_text(encoding="utf-8")

    def test_an_output_folder_instead_of_a_file_or_a_missing_folder_is_refused(self, source: Path) -> None:
        with pytest.raises(FileRefused, match=r"cannot write .*Is a directory"):
            spreadsheet.main(source, source.parent)
        with pytest.raises(FileRefused, match=r"cannot write .*No such file"):
            spreadsheet.main(source, source.parent / "nowhere" / "out.csv")

    def test_a_device_is_written_and_not_replaced(self, source: Path) -> None:
        assert spreadsheet.main(source, Path(os.devnull)) == 0
        assert not Path(os.devnull).is_file()

    def test_without_out_the_result_is_printed(self, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert spreadsheet.main(source, None) == 0

        out, err = capsys.readouterr()
        assert out.splitlines()[1] == ILL + ",7,7,,high,1,2,2,0.79,"
        assert "row scored" in err

    @pytest.mark.services
    def test_a_closed_pipe_is_not_an_error(self, source: Path) -> None:
        source.write_text(f"{HEADER}\n" + f"{ILL}\n" * 3_000, encoding="utf-8")
        script = (
            "import sys, pathlib; from models import spreadsheet; "
            "sys.exit(spreadsheet.main(pathlib.Path(sys.argv[1]), None))"
        )

        with subprocess.Popen(
            [sys.executable, "-c", script, str(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            complaints = process.stderr.read()

        assert (process.returncode, complaints) == (0, b"")


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    decimals = st.integers(low * 100, high * 100).map(lambda n: f"{n // 100}.{n % 100:02}")
    return st.one_of(st.just(""), st.integers(low, high).map(str), decimals)


any_row = st.fixed_dictionaries(
    {
        "respiratory_rate": numbers(0, 60),
        "spo2": numbers(2, 100),
        "spo2_scale": st.sampled_from(["", "1", "2"]),
        "supplemental_oxygen": st.sampled_from(["", "0", "1"]),
        "systolic_bp": numbers(1, 300),
        "heart_rate": numbers(0, 350),
        "consciousness": st.sampled_from(["", "A", "A", "C", "V", "P", "U"]),
        "temperature": numbers(14, 45),
    }
)


@pytest.mark.slow
@given(rows=st.lists(any_row, min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_an_independent_implementation_agrees(rows: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "vitals.csv"
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", *COLUMNS])
            writer.writeheader()
            writer.writerows({"id": str(number)} | cells for number, cells in enumerate(rows))
        out = io.StringIO(newline="")
        summary = score_file(source, out)
    measured = [cells | {"id": str(number)} for number, cells in enumerate(rows)]

    found = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))

    assert found == [cells | reference_scores(cells) for cells in measured]
    assert summary.rows == len(rows)


def test_the_documentation_lists_the_columns_and_their_ranges() -> None:
    document = (Path(__file__).parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")

    for name in COLUMNS:
        line = next(line for line in document.splitlines() if line.startswith(f"| `{name}` |"))
        if name in {sign.value for sign in SPEC} - {"supplemental_oxygen", "consciousness"}:
            low, high = SPEC[VitalSign(name)].possible
            assert f"{low:g} to {high:g}" in line
    assert all(f"`{name}`" in document for name in RESULTS)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        source = tmp_path / f"{rows}.csv"
        source.write_text(f"{HEADER}\n" + f"{ILL}\n" * rows, encoding="utf-8")
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            tracemalloc.start()
            try:
                assert score_file(source, nowhere).rows == rows
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(6_000) < peak(1_000) + 20_000  # the longer file is 120 kB longer, its cells far more

"""Inputs that reports of other systems led to, each with its right value; the inputs are kept beside the checkout.

A case looks at what a user sees: what a command prints and writes, what stands in the ward's store, which alarms the
kernel raises. Where several answers are right (convert, refuse, warn), the case accepts each of them.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.cases.product import Product, Ran, Row


class Verdict(NamedTuple):
    """Whether the product was right, and what it did."""

    right: bool
    got: str


class Case(NamedTuple):
    """One input, the right value in words, and how it is looked at."""

    name: str
    expected: str
    judge: Callable[[Product], Verdict]


MINUTE_S: Final = 60
DOOR: Final = "read, or a message that names a format which is read"
_DOORS: Final = "accepted formats|reads? |columns? |ward --replay|vitalloom (score|predict|ward)"


def alarm(product: Product, stream: str, *, from_s: int, within_s: int, priority: Sequence[str], names: str) -> Verdict:
    """An alarm that sounds, of one of these priorities, whose text or rule contains a word."""
    seen = [one for one in product.streams[stream]["alarms"] if one["sounds"] and one["state"] != "cleared"]
    fit = [
        one for one in seen
        if from_s <= one["second"] <= from_s + within_s
        and one["priority"] in priority
        and re.search(names, f"{one['rule']} {one['key']} {one['text']}", re.IGNORECASE)
    ]  # fmt: skip
    shown = fit or seen
    got = "; ".join(f"{one['second']} s {one['priority']} {one['text']}" for one in shown[:3]) or "no alarm that sounds"
    return Verdict(bool(fit), got)


def apnoea(product: Product) -> Verdict:
    return alarm(product, "apnoea", from_s=600, within_s=75, priority=("HIGH",), names="RR|respir")


def low_spo2(product: Product) -> Verdict:
    return alarm(product, "spo2_45_to_49", from_s=600, within_s=75, priority=("HIGH",), names="SpO2|saturation")


def fraction_in_the_kernel(product: Product) -> Verdict:
    return alarm(
        product, "spo2_as_a_fraction", from_s=0, within_s=15 * MINUTE_S, priority=("LOW", "MEDIUM", "HIGH"),
        names="SpO2|saturation",
    )  # fmt: skip


def clock_behind(product: Product) -> Verdict:
    ill = alarm(product, "clock_an_hour_behind", from_s=0, within_s=75, priority=("HIGH",), names="NEWS2")
    clock = alarm(
        product, "clock_an_hour_behind", from_s=0, within_s=2 * MINUTE_S, priority=("LOW", "MEDIUM", "HIGH"),
        names="clock",
    )  # fmt: skip
    missing = [
        one for one in product.streams["clock_an_hour_behind"]["alarms"] if one["rule"] == "no_data" and one["sounds"]
    ]
    got = f"{ill.got} | clock: {clock.got} | no data: {len(missing)}"
    return Verdict(ill.right and clock.right and not missing, got)


def medium_at_once(product: Product) -> Verdict:
    """Part of the kernel; who is called when is a test of the alarm desk."""
    return alarm(product, "medium_risk", from_s=0, within_s=15, priority=("MEDIUM", "HIGH"), names="NEWS2 6")


def entered_too_old(product: Product) -> Verdict:
    found = product.streams["entered_once"]
    got = f"total {found['total']}, at least {found['at_least']}, missing {', '.join(found['missing']) or 'nothing'}"
    return Verdict(found["total"] is None and "consciousness" in found["missing"], got)


def limit_in_the_text(product: Product) -> Verdict:
    texts = [
        one["text"] for name in ("medium_risk", "entered_once") for one in product.streams[name]["alarms"]
        if one["rule"] == "shock_index"
    ]  # fmt: skip
    return Verdict(bool(texts) and all("0.9" not in text and "1.0" in text for text in texts), "; ".join(texts))


def low_spo2_in_a_file(product: Product) -> Verdict:
    found = product.replay("w32_minute_spo2_45.csv", "--patients", "1", "--duration", "74m")
    sounding = [one for one in found.alarms if one["state"] == "active" and not one["retrospective"]]
    high = [one for one in sounding if one["priority"] == 3 and 590 <= one["second"] <= 670]
    got = "; ".join(f"{one['second'] / 60:.1f} min {one['text']}" for one in (high or sounding)[:2])
    return Verdict(bool(high), got or "no alarm")


def scored(name: str, total: int, risk: str) -> Callable[[Product], Verdict]:
    def judge(product: Product) -> Verdict:
        ran = product.score(name)
        found = [(row.get("news2"), row.get("news2_risk")) for row in ran.rows]
        return Verdict(found == [(str(total), risk)], f"status {ran.status}, {found or short(ran)}")

    return judge


def fraction_in_a_file(product: Product) -> Verdict:
    found = product.replay("w04_spo2_fraction.csv")
    told = found.ran.told
    right = not found.ran.fell_over and bool(re.search(r"(O2Sat|spo2)", told, re.IGNORECASE))
    return Verdict(right, line_with(told, "O2Sat|spo2"))


def one_in_fahrenheit(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p35_fever_units.parquet")
    alike = scores(ran.row(patient_id="fever39C")) == scores(ran.row(patient_id="same_in_F")) != []
    told = bool(re.search(r"Temp.*°?[CF]|°F|102\.2", ran.told))
    return Verdict(not ran.fell_over and (alike or told), f"alike: {alike}; {line_with(ran.told, 'Temp')}")


def three_units_of_temperature(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p15_temp_units.parquet")
    told = bool(re.search(r"Temp", ran.told))
    return Verdict(not ran.fell_over and told, line_with(ran.told, "Temp"))


def no_bypass(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p16a_abstain_bypass.parquet")
    raised = [row["patient_id"] for row in ran.rows if row.get("alarm") == "1"]
    return Verdict(not ran.fell_over and bool(ran.rows) and not raised, f"{len(raised)} alarms")


def unknown_sex(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p13a_gender_2.parquet")
    coded, male = scores(ran.row(patient_id="coded2")), scores(ran.row(patient_id="m"))
    right = not ran.fell_over and coded != male and "Gender" in ran.told
    last = coded[-1:] or ["no score"]
    return Verdict(right and (not coded or math.isclose(float(last[0]), 0.001805, abs_tol=2e-6)), f"last {last[0]}")


def impossible_ages(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p14_ages.parquet")
    unknown = scores(ran.row(patient_id="anan"))
    wrong = [name for name in ("a300", "aneg") if scores(ran.row(patient_id=name)) not in ([], unknown)]
    right = not ran.fell_over and not wrong and bool(unknown) and "Age" in ran.told
    return Verdict(right, f"judged by an impossible age: {', '.join(wrong) or 'none'}; {line_with(ran.told, 'Age')}")


def letters_for_sex(product: Product) -> Verdict:
    ran = product.predict("sepsis", "p12_gender_letters.parquet")
    # Named and refused, or understood: the same scores as a patient with sex 1.
    named = "Gender" in ran.told and "'M'" in ran.told
    understood = scores(ran.rows) == scores(product.predict("sepsis", "p14_ages.parquet").row(patient_id="a60")) != []
    return Verdict(not ran.fell_over and (named or understood), line_with(ran.told, "Gender|Error"))


def heart(name: str, judge: Callable[[Ran, dict[str, Row]], bool], told: str = ".") -> Callable[[Product], Verdict]:
    def look(product: Product) -> Verdict:
        ran = product.predict("heart", name)
        rows = {row["row_id"]: row for row in ran.rows}
        shown = ", ".join(f"{row_id} {row.get('score') or 'no score'}" for row_id, row in rows.items())
        return Verdict(
            not ran.fell_over and judge(ran, rows), f"status {ran.status}; {shown}; {line_with(ran.told, told)}"
        )

    return look


def rhythm(name: str, judge: Callable[[Ran, dict[str, list[Row]]], bool]) -> Callable[[Product], Verdict]:
    def look(product: Product) -> Verdict:
        ran = product.predict("rhythm", name)
        records: dict[str, list[Row]] = {}
        for row in ran.rows:
            records.setdefault(row["record"], []).append(row)
        labels = {record: sorted({row.get("label", "") for row in rows}) for record, rows in records.items()}
        got = f"status {ran.status}; {labels}; {ran.told.strip().splitlines()[-1][:120] if ran.told.strip() else ''}"
        return Verdict(not ran.fell_over and judge(ran, records), got)

    return look


def not_judged(ran: Ran, records: Mapping[str, list[Row]]) -> bool:
    """No class and no probability, with a reason in the file or the messages."""
    rows = [row for rows in records.values() for row in rows]
    sure = any(value not in ("", None) for row in rows for name, value in row.items() if name.startswith("score_"))
    return not sure and bool(re.search(r"not judged|flat|unit|no number|not a number", ran.told + str(rows)))


def in_pieces_or_refused(ran: Ran, records: Mapping[str, list[Row]]) -> bool:
    rows = records.get("long", [])
    if any(row.get("label") == "N" for row in rows) and not any(row.get("label") == "A" for row in rows):
        return False
    return any(row.get("label") == "A" for row in rows) or bool(re.search("61 s|too long|longer", ran.told + str(rows)))


def named_with_the_good_one_judged(ran: Ran, records: Mapping[str, list[Row]]) -> bool:
    good = records.get("a", [])
    return bool(good and good[0].get("label")) and "b" in re.findall(r"\b(b)\b", ran.told)


def two_patients(product: Product) -> Verdict:
    found = product.replay("w02_leading_zero_ids_merge.csv")
    rates: dict[str, set[float]] = {}
    for reading in found.readings:
        if reading["heart_rate"] is not None:
            rates.setdefault(reading["binding_id"], set()).add(reading["heart_rate"])
    return Verdict(sorted(map(sorted, rates.values())) == [[60.0], [150.0]], f"{list(rates.values())}")


def oxygen_in_percent(product: Product) -> Verdict:
    found = product.replay("w05_fio2_percent.csv")
    on: dict[str, set[bool]] = {}
    for reading in found.readings:
        if reading["supplemental_oxygen"] is not None:
            on.setdefault(reading["binding_id"], set()).add(reading["supplemental_oxygen"] > 0)
    told = "FiO2" in found.ran.told
    converted = sorted(map(sorted, on.values())).count([True]) >= 2 and [False] in map(sorted, on.values())
    return Verdict(not found.ran.fell_over and (told or converted), f"told: {told}; on oxygen: {list(on.values())}")


def sparse_first_block(product: Product) -> Verdict:
    found = product.replay("w17_sparse_first_block.csv", "--patients", "2", "--duration", "5m")
    return Verdict(found.ran.status == 0 and found.summary.get("stored", 0) > 0, line_with(found.ran.told, "."))


def ends_in_time(product: Product) -> Verdict:
    found = product.replay("w22_huge_hours.csv", "--duration", "5m")
    seconds = found.summary.get("simulated_s")
    return Verdict(found.ran.status == 0 and seconds is not None and seconds <= 301, f"simulated {seconds} s")


def age_300(product: Product) -> Verdict:
    found = product.replay("w28_age300.csv")
    told = found.ran.told
    named = bool(re.search(r"\bp1\b", told)) and "Age" in told and "300" in told
    return Verdict(found.ran.status == 0 and named, f"status {found.ran.status}; {line_with(told, 'Age|age')}")


def of_excel(product: Product) -> Verdict:
    ran = product.score("s18_excel_sep.csv")
    said = bool(re.search(r"sep=", ran.told)) and "header lacks" not in ran.told
    return Verdict(not ran.fell_over and ((ran.status == 0 and bool(ran.printed)) or said), line_with(ran.told, "."))


def not_for_adults_only(product: Product) -> Verdict:
    ran = product.score("s34_child_pregnant.csv")
    warned = bool(re.search(r"16", ran.told) and re.search(r"pregnan", ran.told.replace("age,pregnant", "")))
    return Verdict(not ran.fell_over and warned, line_with(ran.told.replace("age,pregnant", ""), "16|pregnan"))


def reversed_pressure(product: Product) -> Verdict:
    ran = product.score("s35_sbp_below_dbp.csv")
    total = [row.get("news2") for row in ran.rows]
    refused = ran.status != 0 or total in ([], [""])
    return Verdict(refused and "systolic" in ran.told, f"status {ran.status}, NEWS2 {total}")


def child_at_binding(product: Product) -> Verdict:
    ran = _bound(product, ("w1", "p-1", "4", "--age", "8"))[0]
    warned = bool(re.search(r"16|adult", ran.told))
    return Verdict(not ran.fell_over and warned, ran.told.strip().splitlines()[-1][:160] if ran.told.strip() else "")


def second_wearable(product: Product) -> Verdict:
    ran = _bound(product, ("w1", "p-1", "4", "--age", "50"), ("w2", "p-1", "4", "--age", "50"))[1]
    told = bool(re.search(r"patient", ran.told)) and bool(re.search(r"already|also|second|another|each", ran.told))
    return Verdict(not ran.fell_over and told, " ".join(ran.told.split())[:200])


def names_the_door(name: str, *commands: str) -> Callable[[Product], Verdict]:
    """Each command reads the file, or says in its error which files it reads."""

    def reads(ran: Ran) -> bool:
        return not ran.fell_over and (ran.status == 0 or bool(re.search(_DOORS, ran.told)))

    def look(product: Product) -> Verdict:
        found = [
            product.score(name) if command == "score"
            else product.replay(name, "--duration", "5m").ran if command == "ward"
            else product.predict(command, name)
            for command in commands
        ]  # fmt: skip
        got = " | ".join(ran.told.strip().splitlines()[-1][:110] for ran in found if ran.told.strip())
        return Verdict(all(map(reads, found)), got)

    return look


def _bound(product: Product, *bindings: Sequence[str]) -> list[Ran]:
    """Bind wearables (label, patient, bed, options) in a new site; what each `bind` did."""
    site = product.new_folder()
    product.run("site", "init", site)
    product.run("registry", "add", "edge", "--label", "bay-1", "--site", site, "--quiet")
    done = []
    for wearable, patient, bed, *options in bindings:
        product.run("registry", "add", "wearable", "--label", wearable, "--site", site, "--quiet")
        done.append(
            product.run(
                "registry", "bind", "--site", site, "--wearable", wearable, "--edge", "bay-1", "--patient", patient,
                "--bed", bed, *options,
            )
        )  # fmt: skip
    return done


def scores(rows: Iterable[Row]) -> list[str]:
    return [row["score"] for row in rows if row.get("score")]


def line_with(text: str, pattern: str) -> str:
    found = [line.strip() for line in text.splitlines() if re.search(pattern, line)]
    return found[-1][:160] if found else "nothing said"


def short(ran: Ran) -> str:
    return line_with(ran.told, ".")


def value(row: Mapping[str, Any]) -> float | None:
    return float(row["score"]) if row.get("score") else None


CASES: Final = (
    Case("MA1", "RR 0 from minute 10: high within a minute", apnoea),
    Case("MA2", "SpO2 45 to 49 from minute 10: high within a minute", low_spo2),
    Case("MA3", "SpO2 as a fraction: a technical alarm within minutes", fraction_in_the_kernel),
    Case("MA4", "a clock an hour behind: NEWS2 high at once, clock alarm, no 'no data'", clock_behind),
    Case("MA5", "NEWS2 of 6: an alarm at once", medium_at_once),
    Case("MA6", "consciousness entered 11.9 h ago at NEWS2 5: too old", entered_too_old),
    Case("shock index", "the limit in the text is the rule's, 1.0", limit_in_the_text),
    Case("w32", "SpO2 45 in a file: high within a minute of minute 10", low_spo2_in_a_file),
    Case("s40", "SpO2 48 scores: NEWS2 9, high", scored("s40_spo2_48.csv", 9, "high")),
    Case("s41", "RR 0 scores: NEWS2 7, high", scored("s41_apnoea.csv", 7, "high")),
    Case("w04", "told that the SpO2 of the file is unusable", fraction_in_a_file),
    Case("p35", "39.0 °C and 102.2 °F alike, or told", one_in_fahrenheit),
    Case("p16a", "an impossible temperature does not end an abstention", no_bypass),
    Case("p13a", "sex 2 is unknown", unknown_sex),
    Case("p14", "ages 300 and -1 are unknown or refused", impossible_ages),
    Case("p12", "one line that names Gender and 'M', or M understood", letters_for_sex),
    Case("p15", "°F and tenths: told", three_units_of_temperature),
    Case(
        "h03", "-9 is as empty: 0.724290",
        heart("h03_minus9.csv", lambda _, rows: {value(row) for row in rows.values()} == {0.724290}),
    ),
    Case(
        "h05", "8.0 mmol/L: refused, told or converted",
        heart(
            "h05_chol_mmol.csv",
            lambda ran, rows: "chol" in ran.told or value(rows.get("mmol", {})) == 0.947741, "chol",
        ),
    ),
    Case(
        "h07", "nothing known: no score",
        heart("h07_nothing_known.csv", lambda _, rows: not any(value(row) for row in rows.values())),
    ),
    Case("h14", "a header alone: 0 rows, status 0", heart("h14_header_only.csv", lambda ran, _: ran.status == 0)),
    Case(
        "h19", "an empty target is not needed",
        heart("h19_target_empty.csv", lambda _, rows: value(rows.get("base", {})) is not None),
    ),
    Case("r02", "volts: not judged, with the reason", rhythm("r02_float_volts_no_uv.parquet", not_judged)),
    Case("r03", "volts: not judged, with the reason", rhythm("r03_float_volts_uv1.parquet", not_judged)),
    Case("r11", "a sample is no number: not judged", rhythm("r11_nulls_in_signal.parquet", not_judged)),
    Case(
        "r04", "no signal: named, the other judged", rhythm("r04_null_signal.parquet", named_with_the_good_one_judged),
    ),
    Case(
        "r19", "fs is text: record and column named, or understood",
        rhythm(
            "r19_fs_text.parquet",
            lambda ran, records: bool(records.get("a", [{}])[0].get("label")) or "fs" in ran.told,
        ),
    ),
    Case(
        "r18", "22 minutes: in pieces, or refused as too long",
        rhythm("r18_22min_AF_except_middle.parquet", in_pieces_or_refused),
    ),
    Case(
        "r21", "20 s of flat line are not normal",
        rhythm(
            "r21_asystole_artifact_flat_then_beats.parquet",
            lambda _, records: all(row.get("label") != "N" for row in records.get("a", [])),
        ),
    ),
    Case("w02", "007 and 7 are two patients", two_patients),
    Case("w05", "40 % is oxygen, 21 % is air, or told", oxygen_in_percent),
    Case("w17", "a column that is empty at first is read", sparse_first_block),
    Case("w22", "--duration 5m stops after five simulated minutes", ends_in_time),
    Case("w28", "age 300: patient and column named, the file replayed", age_300),
    Case("s18", "Excel's sep= line is read or named", of_excel),
    Case("s34", "warned: not for under 16 nor in pregnancy", not_for_adults_only),
    Case("s35", "70/120 refused as at the edge", reversed_pressure),
    Case("bind --age 8", "warned or refused: adult NEWS2", child_at_binding),
    Case("second wearable", "told that the patient has one already", second_wearable),
    Case("d01", DOOR, names_the_door("d01_physionet2019_original.psv", "ward", "sepsis")),
    Case("d01b", DOOR, names_the_door("d01b_physionet2019_original_renamed.csv", "ward", "sepsis")),
    Case("d03", DOOR, names_the_door("d03_fhir_bundle.json", "score", "ward", "sepsis")),
    Case("d05", DOOR, names_the_door("d05_viatom.csv", "score", "ward", "sepsis")),
)  # fmt: skip

"""The sepsis model at a bedside against the same model by the hour: readings every few minutes through the edge's own
scoring, the last score of each hour beside one step for the newest values of that hour, as `vitalloom predict` takes.

`python -m benchmarks.bedside [--json] [--quick]`; `VITALLOOM_DATA` names the folder of recorded patients. Without it
the patients are simulated, and nobody knows who was septic.
"""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from benchmarks._timing import QUICK, report
from edge.scoring import Scoring
from models.artifacts import RELEASED, Found, load
from models.evaluation.sepsis_metrics import at_threshold, auroc
from models.runtime import logit
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS
from simulators.replay import open_replay
from simulators.stories import START_MS, Simulated
from vitals.messages import Reading
from vitals.signs import VitalSign
from wire.codec import VitalsV1
from wire.identity import About

FILE: Final = Path(os.environ.get("VITALLOOM_DATA", "../shared/data")) / "sepsis2019" / "setB_dev.parquet"
CADENCE_MS: Final = 300_000
PATIENTS: Final = 4 if QUICK else 100
SIMULATED_H: Final = 3 if QUICK else 24


def main() -> None:
    """Measure and print."""
    artifact = load(RELEASED / "sepsis")
    model = SepsisModel(artifact)
    charted, bedside, labels, who = [], [], [], []
    largest = 0
    patients = list(_recorded() if FILE.is_file() else _simulated())
    for patient, (about, samples, onset_ms) in enumerate(track(patients, description="patients", transient=True)):
        scoring = Scoring(Found({"sepsis": artifact}, {}), partial(_about, about))
        chart = model.patient(age_years=about.age_years, is_male=about.is_male)
        hour, last, values = 0, float("nan"), dict[VitalSign, float]()
        for counter, sample in enumerate(samples):
            while sample.t_ms >= START_MS + (hour + 1) * HOUR_MS:
                hour += 1
                if values and last == last:
                    charted.append(model.step(chart, START_MS + hour * HOUR_MS, values))
                    bedside.append(last)
                    labels.append(int(onset_ms is not None and hour * HOUR_MS >= onset_ms))
                    who.append(patient)
                values, last = {}, float("nan")
            reading = _reading(sample, counter)
            values |= {sign: value for sign in INPUTS if (value := getattr(reading, sign.value)) is not None}
            for score in scoring.take(reading):
                last = float("nan") if score.score is None else score.score
        largest = max(largest, *map(len, scoring.take_states().values()))
    _tell(np.array(charted), np.array(bedside), np.array(labels), np.array(who), model.threshold, largest)


def _tell(
    charted: np.ndarray, bedside: np.ndarray, labels: np.ndarray, who: np.ndarray, threshold: float, largest: int
) -> None:
    agree = float(((charted >= threshold) == (bedside >= threshold)).mean())
    together = float(np.corrcoef([logit(one) for one in charted], [logit(one) for one in bedside])[0, 1])
    facts: dict[str, float | str] = {
        "hours": len(charted),
        "correlation_of_logits": together,
        "same_side": agree,
        "largest_memory_bytes": largest,
    }
    rows = [("hours", str(len(charted))), ("correlation of logits", f"{together:.3f}"), ("same side", f"{agree:.1%}")]
    rows.append(("largest memory of a patient", f"{largest} B"))
    for name, key, scores in (("by the hour", "hourly", charted), ("at a bedside", "bedside", bedside)):
        budget = at_threshold(labels, scores, who, threshold=threshold)
        facts[f"alarms_per_patient_day_{key}"] = max(budget.alarms_per_patient_day, 1e-9)
        rows.append((f"alarms per patient-day, {name}", f"{budget.alarms_per_patient_day:.2f}"))
        if labels.any():
            facts[f"auroc_{key}"] = auroc(labels, scores)
            rows.append((f"AUROC, {name}", f"{facts[f'auroc_{key}']:.3f}"))
    report("bedside", rows, ("what", "figure"), facts)


def _about(about: About, _binding_id: str) -> About:
    return about


def _recorded() -> Iterator[tuple[About, Iterable[VitalsV1], int | None]]:
    for stay in open_replay(FILE).stays(PATIENTS, 1):
        about = About(age_years=stay.age_years, is_male=stay.is_male)
        yield about, stay.samples(CADENCE_MS, START_MS), stay.labelled_ms


def _simulated() -> Iterator[tuple[About, Iterable[VitalsV1], int | None]]:
    story = Simulated("sepsis-onset", patients=min(PATIENTS, 16), seed=1, cadence_ms=CADENCE_MS)
    samples: list[list[VitalsV1]] = [[] for _ in range(story.patients)]
    for moment in story.moments():
        if moment.at_ms >= START_MS + SIMULATED_H * HOUR_MS:
            break
        for patient, sample in moment.samples:
            samples[patient].append(sample)
    for patient, these in enumerate(samples):
        yield story.about(patient), these, None


def _reading(sample: VitalsV1, counter: int) -> Reading:
    return Reading(
        binding_id="00" * 16,
        reading_id=counter.to_bytes(16, "big"),
        session_id=bytes(16),
        counter=counter,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms,
        heart_rate=sample.heart_rate,
        respiratory_rate=sample.respiratory_rate,
        spo2=sample.spo2,
        systolic_bp=sample.systolic_bp,
        diastolic_bp=sample.diastolic_bp,
        temperature=sample.temperature,
    )


if __name__ == "__main__":
    main()

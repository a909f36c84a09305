"""The sepsis model at the bedside compared with hourly prediction.

Readings every five minutes pass through the edge's scoring; the last score of each hour is compared with one step on
the newest values of that hour, as `vitalloom predict` computes it.

`python -m benchmarks.bedside [--json] [--quick]`; `VITALLOOM_DATA` names the folder of recorded patients. Without it
the patients are simulated and have no sepsis labels.
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
from models.artifacts import RELEASED, LoadedModels, load
from models.evaluation.sepsis_metrics import at_threshold, auroc
from models.patient_files.recorded_stays import open_replay
from models.runtime import logit
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS
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
    charted, bedside, labels, members = [], [], [], []
    largest = 0
    patients = list(_recorded() if FILE.is_file() else _simulated())
    for patient, (about, samples, onset_ms) in enumerate(track(patients, description="patients", transient=True)):
        scoring = Scoring(LoadedModels({"sepsis": artifact}, {}), partial(_about, about))
        chart = model.patient(age_years=about.age_years, is_male=about.is_male)
        hour, last, values = 0, float("nan"), dict[VitalSign, float]()
        for counter, sample in enumerate(samples):
            while sample.t_ms >= START_MS + (hour + 1) * HOUR_MS:
                hour += 1
                if values and last == last:
                    charted.append(model.step(chart, START_MS + hour * HOUR_MS, values))
                    bedside.append(last)
                    labels.append(int(onset_ms is not None and hour * HOUR_MS >= onset_ms))
                    members.append(patient)
                values, last = {}, float("nan")
            reading = _reading(sample, counter)
            values |= {sign: value for sign in INPUTS if (value := getattr(reading, sign.value)) is not None}
            for score in scoring.score(reading):
                last = float("nan") if score.score is None else score.score
        largest = max(largest, *map(len, scoring.drain_states().values()))
    _report(np.array(charted), np.array(bedside), np.array(labels), np.array(members), model.threshold, largest)


def _report(
    charted: np.ndarray, bedside: np.ndarray, labels: np.ndarray, members: np.ndarray, threshold: float, largest: int
) -> None:
    agree = float(((charted >= threshold) == (bedside >= threshold)).mean())
    together = float(np.corrcoef([logit(one) for one in charted], [logit(one) for one in bedside])[0, 1])
    facts: dict[str, float | str] = {
        "hours": len(charted),
        "correlation_of_logits": together,
        "same_side": agree,
        "largest_memory_bytes": largest,
    }
    rows = [
        ("hours", str(len(charted))),
        ("correlation of logits", f"{together:.3f}"),
        ("same side of the threshold", f"{agree:.1%}"),
    ]
    rows.append(("largest state of a patient", f"{largest} B"))
    for name, key, scores in (("hourly", "hourly", charted), ("bedside", "bedside", bedside)):
        budget = at_threshold(labels, scores, members, threshold=threshold)
        facts[f"alarms_per_patient_day_{key}"] = max(budget.alarms_per_patient_day, 1e-9)
        rows.append((f"alarms per patient-day, {name}", f"{budget.alarms_per_patient_day:.2f}"))
        if labels.any():
            facts[f"auroc_{key}"] = auroc(labels, scores)
            rows.append((f"AUROC, {name}", f"{facts[f'auroc_{key}']:.3f}"))
    report("bedside", rows, ("measurement", "value"), facts)


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
        stay_id="00" * 16,
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

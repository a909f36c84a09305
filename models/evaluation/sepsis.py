"""The sepsis model on patients that its net has never seen: the released form, the edge's runtime, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifacts import GRAPH, Artifact, load
from models.errors import BadRun
from models.evaluation import plots
from models.evaluation.report import (
    EvaluationReport,
    Table,
    bootstrap,
    calibration_error,
    weighted_auprc,
    weighted_auroc,
)
from models.evaluation.sepsis_metrics import at_budget, at_threshold, auroc, same_hour_auroc, utility
from models.passport import Interval
from models.predict import stay
from models.recordings import FOLDS, Hours, folds_of, read_hours
from models.runtime import OnnxEngine
from models.sepsis import SepsisModel
from models.sepsis_features import INPUTS, NAMES
from vitals import news2
from vitals.signs import VitalSign

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = npt.NDArray[np.float32]

BUDGETS: Final = (0.1, 0.25, 0.5, 1.0)
"""Alarms per patient-day."""
BUDGET: Final = 1.0
"""The one at which scores are compared."""
SPEAKS_AT: Final = 0.5
"""The one at which the model speaks: half the alarms of the comparison, and nearly the best utility."""
AGES: Final = ((0, 50), (50, 65), (65, 75), (75, 200))


STAY_H: Final = ((0, 6), (6, 12), (12, 24), (24, 48), (48, 1_000))
LOOKED_BACK_H: Final = 12


_CURRENT: Final = [
    *(NAMES.index(f"{sign.value}.value") for sign in INPUTS),
    *(NAMES.index(name) for name in ("mean_pressure", "age_years", "male")),
]
"""What a plain learner is shown: the newest values, age and sex."""


class Other(NamedTuple):
    """Another run, whose nets are judged on the same rows."""

    title: str
    work: Path
    without_ages: bool


def evaluate(
    data: Path,
    work: Path,
    out: Path,
    *,
    seed: int,
    keys: tuple[str, ...],
    tell: Callable[[str], None],
    against: tuple[Path, ...] = (),
) -> EvaluationReport:
    """Judge what `vitalloom train sepsis` has left in `work`.

    Args:
        against: working folders of other runs, ablations as a rule.

    Raises:
        BadRecordings, BadRun, ModelUnavailable.
    """
    hours = read_hours(data)
    if hours.labels is None or not (work / "features.npy").is_file():
        raise BadRun(work, "there is nothing to evaluate; train first, on this very file")
    labels = hours.labels
    rows: Rows = np.load(work / "features.npy", mmap_mode="r")
    folds = folds_of(np.maximum.reduceat(labels, hours.starts), seed=seed)
    patients = np.repeat(np.arange(len(hours.starts)), hours.ends - hours.starts)
    artifacts = [load(work / f"fold-{fold}" / "sepsis", trusted=keys) for fold in range(FOLDS)]
    tell("scoring step by step, int8")
    scores = _streamed(artifacts, hours, folds)
    tell("scoring in one go, float32, and with ages of values shuffled")
    whole = [(work / f"fold-{fold}" / "sepsis" / "float32.onnx").read_bytes() for fold in range(FOLDS)]
    width = len(artifacts[0].passport.golden.inputs["h"][0])
    float32 = _at_once(whole, rows, hours, folds, width)
    shuffled = _at_once([one.files[GRAPH] for one in artifacts], _ages_shuffled(rows, seed), hours, folds, width)
    others = {}
    for other in (_other(one) for one in against):
        tell(other.title)
        theirs = [(other.work / f"fold-{fold}" / "sepsis" / "float32.onnx").read_bytes() for fold in range(FOLDS)]
        shown = _without_ages(rows) if other.without_ages else rows
        others[f"{other.title}, float32"] = _at_once(theirs, shown, hours, folds, width)
    tell("rules and boosting on the same rows")
    rules = _rules(rows, hours)
    now = np.asarray(rows[:, _CURRENT])
    logistic = _learned(now, labels, folds[patients], _logistic)
    boosted = _learned(now, labels, folds[patients], _boosting)
    tell("boosting on everything that the net is shown")
    boosted_all = _learned(np.asarray(rows), labels, folds[patients], _boosting)
    named = {
        "model, int8, step by step": scores,
        "model, float32": float32,
        "model, int8, ages of values shuffled": shuffled,
        **others,
        "boosting on all features of the net": boosted_all,
        "boosting on current vitals, age, sex (the bar)": boosted,
        "logistic regression on the same": logistic,
        **rules,
    }
    tell("intervals")
    table = [_row(name, labels, one, hours.hours, patients) for name, one in named.items()]
    counts = hours.ends - hours.starts
    chosen = at_budget(labels, scores, patients, alarms_per_patient_day=SPEAKS_AT)
    pooled = [at_budget(labels, scores, patients, alarms_per_patient_day=rate) for rate in BUDGETS]
    # A threshold that was chosen on the rows on which it is judged flatters: here it comes from the other folds.
    over = [_over_the_others(labels, scores, patients, folds[patients], rate) for rate in BUDGETS]
    curve = [at_threshold(labels, one, patients, threshold=1.0) for one in over]
    spoken = over[BUDGETS.index(SPEAKS_AT)]
    at_work = at_threshold(labels, spoken, patients, threshold=1.0)
    by_rule: list[list[str | float | Interval]] = [
        [
            name,
            *at_threshold(
                labels, _over_the_others(labels, one, patients, folds[patients], BUDGET), patients, threshold=1.0
            )[1:],
        ]
        for name, one in (
            ("model", scores),
            ("boosting on all features", boosted_all),
            ("boosting, the bar", boosted),
            ("logistic regression", logistic),
            ("NEWS2 (vitals)", rules["NEWS2 (vitals)"]),
        )
    ]
    plots.curves(
        out / "curves.svg",
        labels,
        {"model, int8": scores, "boosting": boosted, "NEWS2 (vitals)": rules["NEWS2 (vitals)"]},
    )
    plots.budget(
        out / "budget.svg",
        [one.alarms_per_patient_day for one in curve],
        [one.sensitivity for one in curve],
        [one.ppv for one in curve],
    )
    plots.leads(out / "lead.svg", _leads(labels, scores, hours, chosen.threshold))
    headline = {
        "AUROC": table[0][1],
        "same-hour AUROC": table[0][2],
        "AUPRC": table[0][3],
        "utility at the threshold": Interval(utility(labels, spoken >= 1, patients)),
        "calibration error": Interval(calibration_error(labels, scores)),
        "alarms per patient-day": Interval(at_work.alarms_per_patient_day),
        "sensitivity": Interval(at_work.sensitivity),
        "PPV": Interval(at_work.ppv),
        "lead time, h": Interval(at_work.lead_h),
    }
    return EvaluationReport(
        model="sepsis",
        command=f"vitalloom evaluate sepsis --seed {seed}{' --against OTHER' * len(against)}",
        headline=headline,  # type: ignore[arg-type]
        tables=[
            Table(
                "On patients that the net has not seen",
                ("score", "AUROC", "same hour", "AUPRC", "utility"),
                table,
                f"Five folds by patient, pooled: {len(counts):,} patients, {len(labels):,} hours, "
                f"{labels.mean():.2%} of them before or after an onset. Intervals: patients drawn again 200 times. "
                "Utility at the best threshold of each score on these very rows.",
            ),
            Table(
                "Alarm budgets of the model",
                ("wanted", "alarms per patient-day", "sensitivity", "PPV", "median lead, h", "utility", "released at"),
                [
                    [
                        f"{rate:g}",
                        *one[1:],
                        utility(labels, above >= 1, patients),
                        f"{everybody.threshold:.4f}",
                    ]
                    for rate, one, above, everybody in zip(BUDGETS, curve, over, pooled, strict=True)
                ],
                "The threshold of each fold was chosen on the four others; the one that is released, on all. An alarm "
                "is a crossing from below; sensitivity counts patients with one before or at the onset.",
            ),
            Table(
                f"At {BUDGET:g} alarm per patient-day",
                ("score", "alarms per patient-day", "sensitivity", "PPV", "median lead, h"),
                by_rule,
            ),
            Table(
                "Folds",
                ("fold", "AUROC", "same hour"),
                [
                    [
                        str(fold + 1),
                        auroc(labels[mine], scores[mine]),
                        same_hour_auroc(labels[mine], scores[mine], hours.hours[mine]),
                    ]
                    for fold in range(FOLDS)
                    for mine in (folds[patients] == fold,)
                ],
            ),
            Table(
                "Subgroups",
                ("who", "patients", "AUROC", "same hour", "calibration error", "sensitivity at the threshold", "PPV"),
                _subgroups(labels, scores, hours, patients, chosen.threshold),
            ),
            Table(
                "By hour of stay",
                ("hours", "rows", "of them septic", "AUROC", "same hour", "same hour, boosting"),
                _by_hour(labels, scores, boosted, hours.hours),
                "Where the same-hour figure is lost: pairs within these hours alone.",
            ),
            Table(
                "Septic patients, found and missed at the threshold",
                (
                    "who",
                    "patients",
                    "hours before the onset",
                    "age",
                    "highest NEWS2 (vitals)",
                    "signs an hour",
                    "temperature known",
                ),
                _found_and_missed(labels, scores, rules["NEWS2 (vitals)"], hours, chosen.threshold),
                f"Medians over patients; NEWS2, signs and temperature of the last {LOOKED_BACK_H} h before the onset, "
                "or before the end of what is known.",
            ),
        ],
        plots=["curves.svg", "budget.svg", "lead.svg"],
        notes=[
            f"int8 against float32: AUROC {auroc(labels, scores) - auroc(labels, float32):+.5f}.",
            "No hour of stay enters: moving all hours of a stay changes no bit of a score.",
        ],
        threshold=chosen.threshold,
        budgets={f"{one:g}": found.threshold for one, found in zip(BUDGETS, pooled, strict=True)},
        parity={
            "AUROC int8 - float32": auroc(labels, scores) - auroc(labels, float32),
            "largest difference of a score": float(np.abs(scores - float32).max()),
        },
    )


def _streamed(artifacts: list[Artifact], hours: Hours, folds: Ints) -> Floats:
    models = [SepsisModel(artifact) for artifact in artifacts]
    scores = np.empty(len(hours.hours))
    for at, fold in enumerate(folds):
        scores[hours.starts[at] : hours.ends[at]] = [score for _, score, _ in stay(models[fold], hours, at)]
    return scores


def _at_once(graphs: list[bytes], rows: Rows, hours: Hours, folds: Ints, width: int) -> Floats:
    """Whole stays in one call each."""
    engines = [OnnxEngine(graph) for graph in graphs]
    scores = np.empty(len(hours.hours))
    zero = np.zeros((1, 1, width), np.float32)
    for fold, start, end in zip(folds, hours.starts, hours.ends, strict=True):
        x = np.ascontiguousarray(rows[start:end])[None]
        scores[start:end] = engines[fold]({"x": x, "h": zero, "c": zero})[0][0]
    return scores


def _other(work: Path) -> Other:
    """A working folder, or the folder that it lies in.

    Raises:
        BadRun: nothing was trained there.
    """
    home = work / "sepsis" if (work / "sepsis").is_dir() else work
    try:
        run = msgspec.json.decode((home / "run.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise BadRun(home, f"is no run of `vitalloom train sepsis` ({error})") from error
    ages, second = run.get("without_ages", False), run.get("second", False)
    learned = ["without ages of values"] * ages + ["with a second task" if second else "without a second task"]
    return Other(f"learned {', '.join(learned)}", home, ages)


def _without_ages(rows: Rows) -> Rows:
    changed = np.array(rows)
    changed[:, [place for place, name in enumerate(NAMES) if name.endswith(".age_h")]] = 0
    return changed


def _ages_shuffled(rows: Rows, seed: int) -> Rows:
    """Every age of a value exchanged with that of another row: what the model knows from who measured, is gone."""
    changed = np.array(rows)
    order = np.random.default_rng(seed).permutation(len(changed))
    for place, name in enumerate(NAMES):
        if name.endswith(".age_h"):
            changed[:, place] = changed[order, place]
    return changed


def _current(rows: Rows) -> dict[VitalSign, Floats]:
    return {sign: np.asarray(rows[:, NAMES.index(f"{sign.value}.value")], np.float64) for sign in INPUTS}


def _rules(rows: Rows, hours: Hours) -> dict[str, Floats]:
    """Scores of the wards, of what a wearable sees of them; a sign that is missing gives no points."""
    now = _current(rows)
    heart_rate, spo2, temperature, breaths, systolic, _ = (now[sign] for sign in INPUTS)
    points = sum(
        _points(values, rule)
        for values, rule in (
            (heart_rate, news2.heart_rate),
            (spo2, news2.oxygen_saturation),
            (temperature, news2.temperature),
            (breaths, news2.respiratory_rate),
            (systolic, news2.systolic_bp),
        )
    )
    with np.errstate(invalid="ignore"):
        sirs = (heart_rate > 90).astype(np.float64) + (breaths > 20) + ((temperature > 38) | (temperature < 36))
        qsofa = (breaths >= 22).astype(np.float64) + (systolic <= 100)
    return {
        "NEWS2 (vitals)": np.asarray(points, np.float64),
        "SIRS (vitals)": sirs,
        "qSOFA (vitals)": qsofa,
        "shock index": np.nan_to_num(heart_rate / systolic, nan=0.7),
        "hour of stay alone (the leak, for comparison)": hours.hours.astype(np.float64),
    }


def _points(values: Floats, rule: Callable[[float], int]) -> Floats:
    known, place = np.unique(values, return_inverse=True)
    return np.array([0.0 if np.isnan(one) else float(rule(float(one))) for one in known])[place]


def _learned(rows: Rows, labels: Ints, folds: Ints, make: Callable[[int], Any]) -> Floats:
    """Scores of another way to learn, each fold by one that has learned from the four others."""
    scores = np.empty(len(labels))
    for fold in range(FOLDS):
        learner = make(fold).fit(rows[folds != fold], labels[folds != fold])
        scores[folds == fold] = learner.predict_proba(rows[folds == fold])[:, 1]
    return scores


def _boosting(fold: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.05, max_leaf_nodes=15, l2_regularization=1.0, random_state=fold
    )


def _logistic(_fold: int) -> Any:
    """Missing values as medians, beside a mark."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(C=0.1, max_iter=500)
    )


def _row(name: str, labels: Ints, scores: Floats, hours: Ints, patients: Ints) -> list[str | float | Interval]:
    people = int(patients.max()) + 1
    rank, precision = weighted_auroc(labels, scores), weighted_auprc(labels, scores)
    return [
        name,
        bootstrap(lambda drawn: rank(drawn[patients]), people),
        _same_hour(labels, scores, hours, patients),
        bootstrap(lambda drawn: precision(drawn[patients]), people),
        _best_utility(labels, scores, patients),
    ]


def _same_hour(labels: Ints, scores: Floats, hours: Ints, patients: Ints) -> Interval:
    """Same-hour AUROC and its interval: each hour's own figure, weighted by its pairs."""
    figures: list[tuple[Callable[[Floats], float], Ints, npt.NDArray[np.bool_]]] = []
    for hour in np.unique(hours):
        here = np.flatnonzero(hours == hour)
        ones = labels[here] > 0
        if 0 < ones.sum() < len(here):
            figures.append((weighted_auroc(labels[here], scores[here]), patients[here], ones))

    def figure(drawn: Floats) -> float:
        won = pairs = 0.0
        for rank, who, ones in figures:
            weights = drawn[who]
            weight = weights[ones].sum() * weights[~ones].sum()
            if weight:
                won += weight * rank(weights)
                pairs += weight
        return won / pairs

    return bootstrap(figure, int(patients.max()) + 1)


def _over_the_others(labels: Ints, scores: Floats, patients: Ints, folds: Ints, rate: float) -> Floats:
    """Scores in multiples of the threshold that keeps a budget in the four other folds."""
    over = np.empty(len(scores))
    for fold in range(FOLDS):
        rest, mine = folds != fold, folds == fold
        over[mine] = (
            scores[mine] / at_budget(labels[rest], scores[rest], patients[rest], alarms_per_patient_day=rate).threshold
        )
    return over


def _best_utility(labels: Ints, scores: Floats, patients: Ints) -> float:
    thresholds = np.unique(np.quantile(scores, np.linspace(0.7, 0.995, 40)))
    return max(utility(labels, scores >= threshold, patients) for threshold in thresholds)


def _subgroups(
    labels: Ints, scores: Floats, hours: Hours, patients: Ints, threshold: float
) -> list[list[str | float | Interval]]:
    groups = [
        (
            f"{low} to {high} years" if high < 200 else f"{low} years and above",
            (hours.ages >= low) & (hours.ages < high),
        )
        for low, high in AGES
    ]
    groups += [("women", hours.males == 0), ("men", hours.males == 1)]
    found: list[list[str | float | Interval]] = []
    for name, who in groups:
        mine = who[patients]
        if len(np.unique(labels[mine])) < 2:
            continue  # nobody to tell apart
        budget = at_threshold(labels[mine], scores[mine], patients[mine], threshold=threshold)
        rank = weighted_auroc(labels[mine], scores[mine])
        within = np.unique(patients[mine], return_inverse=True)[1]
        found.append(
            [
                name,
                str(int(who.sum())),
                _within(rank, within, int(who.sum())),
                same_hour_auroc(labels[mine], scores[mine], hours.hours[mine]),
                calibration_error(labels[mine], scores[mine]),
                budget.sensitivity,
                budget.ppv,
            ]
        )
    return found


def _within(rank: Callable[[Floats], float], patients: Ints, people: int) -> Interval:
    return bootstrap(lambda drawn: rank(drawn[patients]), people)


def _by_hour(labels: Ints, scores: Floats, boosted: Floats, hours: Ints) -> list[list[str | float | Interval]]:
    found: list[list[str | float | Interval]] = []
    for low, high in STAY_H:
        mine = (hours >= low) & (hours < high)
        if len(np.unique(labels[mine])) == 2:
            title = f"{low} to {high - 1}" if high < 1_000 else f"{low} and later"
            found.append(
                [
                    title,
                    f"{int(mine.sum()):,}",
                    f"{labels[mine].mean():.2%}",
                    auroc(labels[mine], scores[mine]),
                    same_hour_auroc(labels[mine], scores[mine], hours[mine]),
                    same_hour_auroc(labels[mine], boosted[mine], hours[mine]),
                ]
            )
    return found


def _found_and_missed(
    labels: Ints, scores: Floats, points: Floats, hours: Hours, threshold: float
) -> list[list[str | float | Interval]]:
    """What distinguishes the septic patients that the model told of in time from those that it did not."""
    groups: dict[str, list[tuple[float, ...]]] = {"found": [], "missed": []}
    temperature = list(INPUTS).index(VitalSign.TEMPERATURE)
    for at, (start, end) in enumerate(zip(hours.starts, hours.ends, strict=True)):
        if not labels[start:end].any():
            continue
        onset = int(np.argmax(labels[start:end])) + 6
        until = int(start) + min(onset, int(end - start) - 1) + 1
        last = slice(max(int(start), until - LOOKED_BACK_H), until)
        known = ~np.isnan(hours.values[last])
        groups["found" if (scores[start:until] >= threshold).any() else "missed"].append(
            (onset, hours.ages[at], points[last].max(), known.sum() / len(known), known[:, temperature].mean())
        )
    return [
        [name, str(len(patients)), *(float(one) for one in np.nanmedian(np.array(patients), axis=0))]
        for name, patients in groups.items()
        if patients
    ]


def _leads(labels: Ints, scores: Floats, hours: Hours, threshold: float) -> list[float]:
    """Hours from the first alarm to the onset, of septic patients who had one in time."""
    found = []
    for start, end in zip(hours.starts, hours.ends, strict=True):
        if labels[start:end].any():
            onset = int(np.argmax(labels[start:end])) + 6
            alarms = np.flatnonzero(scores[start:end] >= threshold)
            found += [float(onset - alarms[0])] if len(alarms) and alarms[0] <= onset else []
    return found

"""From a file of recordings to a released model, in small: train, evaluate, release, believe, predict."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifacts import load
from models.errors import BadRun
from models.evaluation.evaluate import evaluate, release
from models.heart_features import Form, features
from models.predict import main as predict
from models.training.heart import HeartRecipe, fit_heart
from models.training.train import train
from tests.models.made_up import KEY, PUBLIC, clinic, ecgs, hourly, icu

pytestmark = pytest.mark.training

MADE: dict[str, Callable[[Path], Path]] = {
    "sepsis": lambda folder: hourly(folder / "hours.parquet", patients=60),
    "heart": lambda folder: clinic(folder / "heart.csv", patients=120),
    "rhythm": lambda folder: ecgs(folder / "ecg.parquet", records=80),
}


def trained(task: str, folder: Path) -> tuple[Path, Path]:
    data, work = MADE[task](folder), folder / "work"
    assert train(task, data, work, folds="all", seed=3, device="cpu", threads=1, quick=True) == 0
    return data, work


@pytest.mark.parametrize("task", MADE)
def test_a_model_goes_all_the_way(task: str, tmp_path: Path) -> None:
    data, work = trained(task, tmp_path)
    (tmp_path / "key").write_text(KEY.private_bytes_raw().hex())

    assert evaluate(task, data, work, None, seed=3) == 0
    assert release(task, work, tmp_path / "models", version="0.1.0", key=tmp_path / "key") == 0

    report = json.loads((work / task / "report" / "report.json").read_text())
    passport = load(tmp_path / "models" / task, trusted=(PUBLIC,)).passport
    assert (passport.name, passport.version, passport.seed) == (task, "0.1.0", 3)
    assert set(passport.metrics) == set(report["headline"])
    assert all((tmp_path / "models" / task / plot).is_file() for plot in report["plots"])
    assert "## What was tried" in (tmp_path / "models" / task / "card.md").read_text()
    out = tmp_path / "scores.csv"
    assert predict(task, data, out, form="clinic", models=tmp_path / "models", keys=(PUBLIC,)) == 0
    with out.open() as file:
        assert len(list(csv.DictReader(file))) > 50


def test_an_ablation_is_a_run_of_its_own_and_is_judged_beside(tmp_path: Path) -> None:
    data, work = trained("sepsis", tmp_path)
    options = {"folds": "1,2,3,4,5", "seed": 3, "device": "cpu", "threads": 1, "quick": True}
    train("sepsis", data, tmp_path / "without", without_ages=True, **options)
    train("sepsis", data, tmp_path / "second", second=icu(tmp_path / "icu2012"), **options)

    assert evaluate("sepsis", data, work, None, seed=3, against=(tmp_path / "without", tmp_path / "second")) == 0

    report = json.loads((work / "sepsis" / "report" / "report.json").read_text())
    rows = {row[0]: row[1][0] for row in report["tables"][0]["rows"]}
    assert {
        "learned without ages of values, without a second task, float32", "learned with a second task, float32",
    } < set(rows)  # fmt: skip
    assert len({rows[name] for name in rows if "float32" in name}) == 3
    titles = [table["title"] for table in report["tables"]]
    assert {"By hour of stay", "Septic patients, found and missed at the threshold"} < set(titles)
    with pytest.raises(BadRun, match="another run"):
        train("sepsis", data, tmp_path / "without", **options)


def test_what_is_of_sepsis_alone_is_refused_elsewhere(tmp_path: Path) -> None:
    data = MADE["heart"](tmp_path)

    with pytest.raises(BadRun, match="of sepsis"):
        train(
            "heart",
            data,
            tmp_path / "work",
            folds="all",
            seed=0,
            device="cpu",
            threads=1,
            quick=True,
            without_ages=True,
        )
    with pytest.raises(BadRun, match="of sepsis"):
        evaluate("heart", data, tmp_path / "work", None, seed=0, against=(tmp_path,))


def test_a_card_says_figures_with_their_intervals_as_people_write_them(tmp_path: Path) -> None:
    data, work = trained("heart", tmp_path)
    (tmp_path / "key").write_text(KEY.private_bytes_raw().hex())
    evaluate("heart", data, work, None, seed=3)
    release("heart", work, tmp_path / "models", version="0.1.0", key=tmp_path / "key")

    card = (tmp_path / "models" / "heart" / "card.md").read_text()

    assert re.search(r"\| women \| \d+ \| [01]\.\d{3} \[[01]\.\d{3}, [01]\.\d{3}\]", card)
    assert not re.search(r"\d\.\d{6}.*\|", card)


def test_who_is_interrupted_goes_on_after_the_last_whole_net_and_only_in_the_same_run(tmp_path: Path) -> None:
    data, work = MADE["heart"](tmp_path), tmp_path / "work"
    with pytest.raises(BadRun, match="every fold"):
        train("heart", data, work, folds="1,2", seed=0, device="cpu", threads=1, quick=True)
    there = {path.name: path.stat().st_mtime_ns for path in (work / "heart").glob("net-*.pt")}

    train("heart", data, work, folds="all", seed=0, device="cpu", threads=1, quick=True)

    assert set(there) == {"net-0.pt", "net-1.pt"}
    assert {name: (work / "heart" / name).stat().st_mtime_ns for name in there} == there
    with pytest.raises(BadRun, match="another run"):
        train("heart", data, work, folds="all", seed=4, device="cpu", threads=1, quick=True)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    rng = np.random.default_rng(0)
    people = [{"age": float(rng.integers(30, 80)), "sex": 1.0, "cp": 4.0, "trestbps": 120.0 + at} for at in range(40)]
    rows, labels = np.array([features(Form.HOME, one) for one in people]), rng.integers(0, 2, 40)
    recipe = HeartRecipe(members=2, steps=10, generations=2)

    one, two, other = (
        fit_heart(Form.HOME, rows, labels, recipe, seed=seed, device="cpu", tell=lambda _: None).state_dict()
        for seed in (7, 7, 8)
    )

    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["one"], other["one"])


@pytest.mark.parametrize("folds", ["0", "7", "x", ""])
def test_folds_that_do_not_exist_are_refused(tmp_path: Path, folds: str) -> None:
    with pytest.raises(BadRun, match="--folds"):
        train("heart", tmp_path, tmp_path, folds=folds, seed=0, device="cpu", threads=1, quick=True)


def test_what_was_not_trained_is_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(BadRun, match="vitalloom train"):
        evaluate("heart", clinic(tmp_path / "heart.csv"), tmp_path / "work", None, seed=0)

"""What the command `vitalloom train` does: trains folds and the final model, with progress bars."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.errors import BadRun
from models.heart_features import Form
from models.recordings import FOLDS, file_of
from models.training.heart import HeartRecipe
from models.training.progress import Step, Tell
from models.training.rhythm import RhythmRecipe
from models.training.runs import Run, train_heart, train_rhythm, train_sepsis
from models.training.sepsis import SepsisRecipe


def train(
    task: str,
    data: Path,
    work: Path,
    *,
    folds: str,
    seed: int,
    device: str,
    threads: int,
    quick: bool,
    without_ages: bool = False,
    second: Path | None = None,
) -> int:
    """Train what is asked for; what is there already is not trained again.

    Raises:
        BadRecordings: an unknown task.
        BadRun: an unknown fold or device, or a folder of another run.
    """
    file = file_of(task, data)
    if task != "sepsis" and (without_ages or second is not None):
        raise BadRun(work, f"--without-ages and --second are of sepsis, not of {task}")
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=console) as bars:
        run = Run(
            data=file,
            work=work / task,
            seed=seed,
            device=_device(device),
            folds=_folds(work, folds),
            command=_command(task, seed, quick=quick, without_ages=without_ages, second=second),
            watch=_watch(bars),
            without_ages=without_ages,
            second=second,
        )
        _TRAIN[task](run, quick)
    console.print(f"{task}: {work / task}, {(time.monotonic() - began) / 60:.1f} min on {run.device}")
    return 0


def _command(task: str, seed: int, *, quick: bool, without_ages: bool, second: Path | None) -> str:
    """As somebody else would give it; where data lie is theirs to say."""
    options = (
        [" --quick"] * quick + [" --without-ages"] * without_ages + [" --second DATA/icu2012"] * (second is not None)
    )
    return f"vitalloom train {task} --seed {seed}{''.join(options)}"


def _sepsis(run: Run, quick: bool) -> None:
    train_sepsis(run, SepsisRecipe(epochs=1, hidden=16, embedding=16) if quick else SepsisRecipe())


def _heart(run: Run, quick: bool) -> None:
    train_heart(run, _heart_recipe(quick), Form.CLINIC)


def _heart_home(run: Run, quick: bool) -> None:
    train_heart(run, _heart_recipe(quick), Form.HOME)


def _rhythm(run: Run, quick: bool) -> None:
    train_rhythm(run, RhythmRecipe(wave_epochs=1, beat_epochs=1) if quick else RhythmRecipe())


def _heart_recipe(quick: bool) -> HeartRecipe:
    return HeartRecipe(members=2, steps=20, generations=2) if quick else HeartRecipe()


_TRAIN: Final[dict[str, Callable[[Run, bool], None]]] = {
    "sepsis": _sepsis,
    "heart": _heart,
    "heart-home": _heart_home,
    "rhythm": _rhythm,
}


def _watch(bars: Progress) -> Callable[[str], Tell]:
    def begin(title: str) -> Tell:
        bar = bars.add_task(title, loss="", total=None)

        def tell(step: Step) -> None:
            bars.update(bar, completed=step.done, total=step.of, loss=f"{step.loss:.3f}" if step.loss else "")

        return tell

    return begin


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadRun(Path("--device"), "there is no accelerator that this torch can use; say cpu or auto")
    return wanted


def _folds(work: Path, text: str) -> tuple[int, ...]:
    """`all` is every fold and then everybody; or numbers from 1 on, with 6 for everybody."""
    if text == "all":
        return tuple(range(FOLDS + 1))
    try:
        folds = tuple(int(one) - 1 for one in text.split(","))
    except ValueError:
        folds = (-1,)
    if not all(0 <= fold <= FOLDS for fold in folds):
        raise BadRun(work, f"--folds {text}: say all, or numbers from 1 to {FOLDS} ({FOLDS + 1}: everybody)")
    return folds

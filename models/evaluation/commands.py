"""The commands `vitalloom evaluate` and `vitalloom release`."""

from pathlib import Path
from typing import Annotated

import typer

WorkOption = Annotated[Path, typer.Option("--work", help="Working folder of `vitalloom train`.")]
_WORK = Path("work")


def evaluate(
    task: Annotated[str, typer.Argument(help="Model to evaluate: sepsis, heart, heart-home or rhythm.")],
    data: Annotated[Path, typer.Option(help="File of the data set, or the folder that holds all data sets.")],
    work: WorkOption = _WORK,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report.", show_default="report, in the working folder")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the training run.")] = 0,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sepsis only: working folder of another run to compare with. May be repeated.", show_default=False
        ),
    ] = None,
) -> None:
    """Evaluate a training run on patients that its models have not seen: tables, plots and JSON."""
    from models.evaluation.evaluate import evaluate as run

    raise typer.Exit(run(task, data, work, out, seed=seed, against=tuple(against or ())))


def release(
    task: Annotated[str, typer.Argument(help="Model to release: sepsis, heart, heart-home or rhythm.")],
    version: Annotated[
        str, typer.Option(help="Version, as 1.2.0; an edge refuses a version below the last one that it trusted.")
    ],
    key: Annotated[Path, typer.Option(help="File with the Ed25519 private key that signs, 32 bytes in hex.")],
    into: Annotated[Path, typer.Option(help="Folder of released models to write to.")],
    work: WorkOption = _WORK,
) -> None:
    """Release the final model of an evaluated run: model files, signed passport, model card."""
    from models.evaluation.evaluate import release as run

    raise typer.Exit(run(task, work, into, version=version, key=key))

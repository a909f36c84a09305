"""The command `vitalloom train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    task: Annotated[str, typer.Argument(help="Model to train: sepsis, heart, heart-home or rhythm.")],
    data: Annotated[Path, typer.Option(help="File of the data set, or the folder that holds all data sets.")],
    work: Annotated[
        Path, typer.Option(help="Working folder; an interrupted run is resumed from the checkpoints in it.")
    ] = Path("work"),
    folds: Annotated[
        str, typer.Option(help="Folds to train: 'all', or numbers such as 1,2 (1 to 5; 6 is the final model).")
    ] = "all",
    seed: Annotated[int, typer.Option(help="Random seed for fold assignment and weight initialisation.")] = 0,
    device: Annotated[str, typer.Option(help="Device to train on: 'auto', 'cpu' or 'cuda'.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train a tiny model in about a minute, to check the installation.")
    ] = False,
    without_ages: Annotated[
        bool, typer.Option("--without-ages", help="Sepsis only, ablation: hide the age of each value from the model.")
    ] = False,
    second: Annotated[
        Path | None,
        typer.Option(help="Sepsis only: folder of icu2012, used as a second training task.", show_default=False),
    ] = None,
) -> None:
    """Train a model: five folds by patient, then the final model on all patients; calibrate and export it as int8."""
    from models.training.train import train as run

    raise typer.Exit(
        run(
            task,
            data,
            work,
            folds=folds,
            seed=seed,
            device=device,
            threads=threads,
            quick=quick,
            without_ages=without_ages,
            second=second,
        )
    )

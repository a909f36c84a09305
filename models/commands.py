"""The commands `vitalloom score` and `vitalloom predict`."""

from pathlib import Path
from typing import Annotated

import typer


def score(
    file: Annotated[Path, typer.Argument(help="CSV file with a header row; docs/scores.md lists the columns.")],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write. Default: the terminal.", show_default=False)
    ] = None,
) -> None:
    """Add NEWS2, qSOFA, SIRS, MEWS and shock index to a spreadsheet of vital signs.

    An empty cell means that the value was not measured.
    """
    from models.spreadsheet import main

    raise typer.Exit(main(file, out))


def predict(
    task: Annotated[str, typer.Argument(help="Model to use: sepsis, heart or rhythm.")],
    data: Annotated[Path, typer.Option(help="File of recorded patients; docs/models.md lists the columns.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    form: Annotated[
        str,
        typer.Option(help="Heart model to use: 'clinic' (with laboratory and exercise values) or 'home' (without)."),
    ] = "clinic",
    models: Annotated[Path | None, typer.Option(help="Folder of models.", show_default="the released models")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Additional trusted release key, Ed25519 in hex. May be repeated.", show_default=False),
    ] = None,
) -> None:
    """Score recorded patients with the released models, one step at a time, as an edge would."""
    from models.predict import main

    raise typer.Exit(main(task, data, out, form=form, models=models, keys=tuple(key or ())))

"""The commands `vitalloom score` and `vitalloom predict`."""

from pathlib import Path
from typing import Annotated

import typer

_UNIT = typer.Option(
    help="Unit of a column that has another one than documented, such as temperature=°F. May be repeated.",
    show_default=False,
)
_JSON = typer.Option("--json", help="Print the summary as one JSON object on the last line.")


def score(
    file: Annotated[Path, typer.Argument(help="CSV file with a header row; docs/scores.md lists the columns.")],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write. Default: the terminal.", show_default=False)
    ] = None,
    unit: Annotated[list[str] | None, _UNIT] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Add NEWS2, qSOFA, SIRS, MEWS and shock index to a spreadsheet of vital signs.

    Units are /min, %, mmHg and °C; consciousness is A, C, V, P or U; supplemental oxygen 0 (air) or 1 (oxygen).
    Optional columns: diastolic_bp; age and pregnant (no score under 16 years or in pregnancy).

    An empty cell, NA or -9 means that the value was not measured. A value that nobody can have, or in another unit, is
    not scored: the column news2_note names it, and the summary counts it. A row with too many or too few cells is left
    out.

    Exit status: 0 if every row was scored, 1 if a row was left out, 2 if the file cannot be read.
    """
    from models.spreadsheet import main

    raise typer.Exit(main(file, out, units=unit or (), as_json=as_json))


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
    unit: Annotated[list[str] | None, _UNIT] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Score recorded patients with a released model, one step at a time, as an edge does.

    sepsis: hours with HR, O2Sat, Temp, Resp, SBP, DBP in /min, %, °C and mmHg; Age in years; Gender 1 or M male, 0 or F
    female. heart: the 13 attributes and codes of docs/models.md, cholesterol in mg/dL. Both as CSV or Parquet. rhythm:
    Parquet, one lead of 5 s or more; more than 61 s are judged in pieces of 30 s.

    NA, -9 or an empty cell means that a value was not measured. A value that nobody can have, or in another unit, is
    not used, and the summary counts and names it. The column note says why the model abstains, and why a recording is
    not judged.

    Exit status: 0 if every record was judged, 1 if one was not, 2 if the file cannot be read.
    """
    from models.predict import main

    raise typer.Exit(
        main(
            task,
            data,
            out,
            form=form,
            models=models,
            keys=tuple(key or ()),
            units=unit or (),
            as_json=as_json,
        )
    )

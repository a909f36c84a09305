"""The command `vitalloom health`."""

from typing import Annotated

import typer


def health(
    where: Annotated[
        str, typer.Argument(help="Address of the process's http.listen: a port of this machine, host:port, or a URL.")
    ],
    alive: Annotated[
        bool, typer.Option("--live", help="Check liveness only (does it need a restart?), not readiness.")
    ] = False,
) -> None:
    """Ask a running process whether it makes progress.

    Exit status 0 if it does; otherwise 1, with the reason. Needs no shell, so that containers can use it.
    """
    from runtime.health import main

    raise typer.Exit(main(where, alive=alive))

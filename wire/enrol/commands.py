"""The command `vitalloom enrol`."""

from pathlib import Path
from typing import Annotated

import typer


def enrol(
    invitation: Annotated[
        str, typer.Argument(help="The invitation from the registry, a file that holds it, or - for standard input.")
    ] = "-",
    folder: Annotated[Path, typer.Option("--dir", help="Folder for this device's identity.")] = Path("identity"),
    again: Annotated[bool, typer.Option("--again", help="Replace the identity that is in the folder.")] = False,
) -> None:
    """Enrol this device at a site: create its keys here, prove possession of them, store the certificates.

    Other users of this machine can see an invitation on the command line; better paste it, or name a file.
    """
    from wire.enrol.client import main

    raise typer.Exit(main(invitation, folder, again=again))

"""The command `vitalloom ingest`."""

from pathlib import Path
from typing import Annotated

import typer


def ingest(
    site: Annotated[
        Path, typer.Option(envvar="VITALLOOM_SITE", help="Site folder: registry, and the identity of ingest.")
    ] = Path("site"),
    data: Annotated[Path, typer.Option(help="Folder of the ledger of received sessions.")] = Path("data"),
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration file; see --sample-config.", show_default=False)
    ] = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and exit.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and exit.")] = False,
) -> None:
    """Receive frames from edges, append them to Kafka, and acknowledge them once the database has stored them."""
    if sample_config:
        typer.echo(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    from stream.ingest.process import ingest_config, run_ingest

    found = ingest_config(config)
    if check_config:
        typer.echo("the configuration is valid")
        raise typer.Exit
    raise typer.Exit(run_ingest(site, data, found))

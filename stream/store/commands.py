"""The commands `vitalloom store`."""

from pathlib import Path
from typing import Annotated

import typer

store = typer.Typer(
    help="Prepare InfluxDB, and write judged readings to it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file; see `run --sample-config`.", show_default=False),
]


@store.command("init")
def init(
    config: ConfigOption = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Folder for a write token (store writer) and a read token (Grafana).", show_default=False),
    ] = None,
) -> None:
    """Create the buckets, the task that aggregates minutes into hours, and tokens, as far as they are missing."""
    from stream.store.process import init_store, store_config

    made = init_store(store_config(config), tokens=tokens)
    typer.echo("\n".join(f"created: {one}" for one in made) or "everything exists")


@store.command("run")
def run(
    config: ConfigOption = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and exit.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and exit.")] = False,
) -> None:
    """Write judged readings from Kafka to InfluxDB, and report to ingest what is stored."""
    if sample_config:
        typer.echo(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    from stream.store.process import run_store, store_config

    found = store_config(config)
    if check_config:
        typer.echo("the configuration is valid")
        raise typer.Exit
    raise typer.Exit(run_store(found))

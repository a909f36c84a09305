"""The commands of a cluster that are groups: `vitalloom log` and `vitalloom store`. What they do lives elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from stream.cluster import init_log, init_store, kafka_config, run_store, store_config

log = typer.Typer(
    help="The topics in Kafka.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
store = typer.Typer(help="The database.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

BootstrapOption = Annotated[str, typer.Option("--kafka", envvar="VITALLOOM_KAFKA", help="host:port of a broker.")]
PrefixOption = Annotated[str, typer.Option(help="Before every topic.")]


@log.command("init")
def init_topics(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    partitions: Annotated[
        int, typer.Option(min=1, max=10_000, help="Most workers that can share the readings; it stays as it is.")
    ] = 12,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Copies of everything; 3 on a real cluster.")] = 1,
) -> None:
    """Make the topics that are missing, and check the others."""
    config = kafka_config(kafka, topic_prefix)
    made = init_log(config, partitions=partitions, replication=replication)
    typer.echo(f"{len(made)} topics made{': ' + ', '.join(made) if made else ', all were there'}")


ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; see --sample-config of `run`.")]


@store.command("init")
def init_buckets(
    config: ConfigOption = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Folder for a token that writes and one that reads.", show_default=False)
    ] = None,
) -> None:
    """Make the buckets, the task that makes hours of minutes, and tokens, as far as they are missing."""
    made = init_store(store_config(config), tokens=tokens)
    typer.echo("\n".join(f"made: {one}" for one in made) or "everything was there")


@store.command("run")
def run_writer(
    config: ConfigOption = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and leave.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and leave.")] = False,
) -> None:
    """Write what workers have judged to InfluxDB, and say so when it is there."""
    if sample_config:
        typer.echo((Path(__file__).parent / "store.sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    found = store_config(config)
    if check_config:
        typer.echo("the configuration can be used")
        raise typer.Exit
    raise typer.Exit(run_store(found))

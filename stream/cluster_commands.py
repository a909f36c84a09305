"""The commands of a cluster that are groups: `vitalloom log` and `vitalloom store`. What they do lives elsewhere."""

from typing import Annotated

import typer

from stream.cluster import init_log, kafka_config

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

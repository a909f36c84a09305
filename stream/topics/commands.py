"""The commands `vitalloom topics`."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from stream.topics.admin import create_missing_topics, dead_letters, kafka_config, read_status, resend

topics = typer.Typer(
    help="Create and inspect the Kafka topics; list dead letters and send them again.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

BootstrapOption = Annotated[str, typer.Option("--kafka", envvar="VITALLOOM_KAFKA", help="host:port of a Kafka broker.")]
PrefixOption = Annotated[str, typer.Option(help="Prefix for all Kafka topic names.")]


@topics.command("init")
def init(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    partitions: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            help="Number of partitions: the most workers that can share the readings. It cannot be changed later.",
        ),
    ] = 12,
    replication: Annotated[
        int, typer.Option(min=1, max=10, help="Replication factor; use 3 on a cluster of three or more brokers.")
    ] = 1,
) -> None:
    """Create missing topics, and check that the others have the right number of partitions."""
    config = kafka_config(kafka, topic_prefix)
    made = create_missing_topics(config, partitions=partitions, replication=replication)
    typer.echo(f"{len(made)} topics created: {', '.join(made)}" if made else "all topics exist")


@topics.command("status")
def show_status(kafka: BootstrapOption = "127.0.0.1:9092", topic_prefix: PrefixOption = "") -> None:
    """Show the records in each topic, the lag of each consumer group, and the number of dead letters."""
    found = read_status(kafka_config(kafka, topic_prefix))
    sizes = Table("topic", Column("partitions", justify="right"), Column("records kept", justify="right"))
    for one in found.topics:
        sizes.add_row(one.name, str(one.partitions), f"{one.records:,}")
    readers = Table("consumer group", "topic", Column("records behind", justify="right"))
    for group, name, behind in found.behind:
        readers.add_row(group, name, f"{behind:,}")
    console = Console()
    console.print(sizes, readers)
    if found.dead_letters:
        console.print(f"{found.dead_letters:,} dead letters; list them with: vitalloom topics dead-letters")


@topics.command("dead-letters")
def show_dead_letters(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    last: Annotated[int, typer.Option(min=1, help="Number of the newest dead letters to show.")] = 20,
) -> None:
    """List records that could not be processed, and why. Their content is not shown, because it is patient data."""
    found = dead_letters(kafka_config(kafka, topic_prefix))
    counts = Counter((one.content.stage, one.content.reason) for one in found)
    summary = Table("failed at", "reason", Column("dead letters", justify="right"))
    for (stage, reason), count in counts.most_common():
        summary.add_row(stage, reason, f"{count:,}")
    newest = Table("time (UTC)", "failed at", "reason", "problem", "source", "vitalloom version")
    for _, one in found[-last:]:
        at = datetime.fromtimestamp(one.at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        newest.add_row(at, one.stage, one.reason, one.problem, one.source, one.version)
    console = Console()
    if found:
        console.print(summary, newest)
    else:
        console.print("no dead letters")


@topics.command("resend")
def send_again(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    application: Annotated[
        str, typer.Option(help="Kafka application name, as in the workers' configuration.")
    ] = "vitalloom",
    site: Annotated[
        Path | None,
        typer.Option(help="Site folder; needed to resend frames that ingest could not decode.", show_default=False),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(help="Resend only dead letters of this stage: ingest, processor or store.", show_default=False),
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Also resend dead letters that were resent before.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until the store writer has read what was sent to it.")
    ] = 20,
) -> None:
    """Send dead letters again, after their cause is fixed. Sending one twice is harmless."""
    config = kafka_config(kafka, topic_prefix, application=application)
    found = resend(config, site=site, again=again, stage=stage, wait_s=wait)
    typer.echo(f"{found.sent.total()} sent again" + "".join(f"\n  {n} {name}" for name, n in found.sent.items()))
    if found.sent["store"]:
        typer.echo(_written(found.sent["store"], found.refused_again, wait))
    if found.kept:
        typer.echo(f"{found.kept.total()} not sent" + "".join(f"\n  {n} {why}" for why, n in found.kept.items()))
        typer.echo("They stay among the dead letters; after the fix: vitalloom topics resend --again")


def _written(sent: int, refused: int | None, wait_s: float) -> str:
    if refused is None:
        return (
            f"the store writer has not read all of them within {wait_s:g} s; is it running? (vitalloom topics status)"
        )
    if not refused:
        return f"all {sent} of the store are written to InfluxDB"
    return (
        f"{refused} of {sent} of the store were refused again, and are new dead letters (vitalloom topics dead-letters)"
    )

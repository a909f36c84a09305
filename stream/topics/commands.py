"""The commands of a cluster that are groups: `vitalloom log` and `vitalloom store`. What they do lives elsewhere."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from stream.topics.admin import (
    dead_letters,
    init_log,
    init_store,
    kafka_config,
    log_status,
    resend,
    run_store,
    store_config,
)

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


@log.command("status")
def show_log(kafka: BootstrapOption = "127.0.0.1:9092", topic_prefix: PrefixOption = "") -> None:
    """What lies in each topic, how far behind each reader is, and how many dead letters wait."""
    found = log_status(kafka_config(kafka, topic_prefix))
    topics = Table("topic", Column("partitions", justify="right"), Column("records kept", justify="right"))
    for one in found.topics:
        topics.add_row(one.name, str(one.partitions), f"{one.records:,}")
    readers = Table("read by", "of", Column("records behind", justify="right"))
    for group, name, behind in found.behind:
        readers.add_row(group, name, f"{behind:,}")
    console = Console()
    console.print(topics, readers)
    if found.dead_letters:
        console.print(f"{found.dead_letters:,} dead letters are kept: vitalloom log dead-letters")


@log.command("dead-letters")
def show_dead_letters(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    last: Annotated[int, typer.Option(min=1, help="Show so many of the newest.")] = 20,
) -> None:
    """What could not be used, and why. What it said is not shown: it is a patient's."""
    found = dead_letters(kafka_config(kafka, topic_prefix))
    counts = Counter((one.content.stage, one.content.reason) for one in found)
    summary = Table("failed at", "reason", Column("letters", justify="right"))
    for (stage, reason), count in counts.most_common():
        summary.add_row(stage, reason, f"{count:,}")
    newest = Table("when (UTC)", "failed at", "reason", "problem", "where", "by version")
    for _, one in found[-last:]:
        at = datetime.fromtimestamp(one.at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        newest.add_row(at, one.stage, one.reason, one.problem, one.source, one.version)
    console = Console()
    if found:
        console.print(summary, newest)
    else:
        console.print("there are none")


@log.command("resend")
def send_again(
    kafka: BootstrapOption = "127.0.0.1:9092",
    topic_prefix: PrefixOption = "",
    application: Annotated[str, typer.Option(help="As the workers are told.")] = "vitalloom",
    site: Annotated[
        Path | None,
        typer.Option(help="The site's folder: without it, what the ingest refused stays.", show_default=False),
    ] = None,
    stage: Annotated[
        str, typer.Option(help="Only what failed there: ingest, processor or store.", show_default=False)
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent again before.")] = False,
) -> None:
    """Send dead letters again, once what refused them is mended. What is there already changes nothing."""
    found = resend(kafka_config(kafka, topic_prefix, application=application), site=site, again=again, stage=stage)
    typer.echo(f"{found.sent.total()} sent again" + "".join(f"\n  {n} {name}" for name, n in found.sent.items()))
    if found.kept:
        typer.echo(f"{found.kept.total()} stay" + "".join(f"\n  {n} {why}" for why, n in found.kept.items()))


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
        typer.echo((Path(__file__).parents[1] / "store" / "sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    found = store_config(config)
    if check_config:
        typer.echo("the configuration can be used")
        raise typer.Exit
    raise typer.Exit(run_store(found))

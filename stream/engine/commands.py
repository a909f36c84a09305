"""The command `vitalloom worker`."""

from pathlib import Path
from typing import Annotated

import typer


def worker(
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration file; see --sample-config.", show_default=False)
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Library that runs the consumer: faust, or plain (aiokafka alone).")
    ] = "faust",
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and exit.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and exit.")] = False,
) -> None:
    """Judge readings from Kafka: scores, windows and alarms. Up to one worker for each partition may run."""
    if sample_config:
        typer.echo(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    from stream.engine.process import EventLoop, run_worker, worker_config

    if engine not in list(EventLoop):
        raise typer.BadParameter(f"{engine}: expected {' or '.join(EventLoop)}", param_hint="--engine")
    found = worker_config(config)
    if check_config:
        typer.echo("the configuration is valid")
        raise typer.Exit
    raise typer.Exit(run_worker(found, EventLoop(engine)))

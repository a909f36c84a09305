"""The command `vitalloom stream`."""

from pathlib import Path
from typing import Annotated

import typer


def stream(
    site: Annotated[
        Path, typer.Option(envvar="VITALLOOM_SITE", help="Site folder, with the registry and the identity of ingest.")
    ] = Path("site"),
    data: Annotated[Path, typer.Option(help="Folder of the SQLite store; created if it does not exist.")] = Path(
        "data"
    ),
    desk: Annotated[
        Path | None,
        typer.Option(
            envvar="VITALLOOM_STREAM__DESK",
            help="Configuration file of the alarm desk (TOML), which notifies people; see vitalloom desk "
            "--sample-config. The section kafka is not used. Default: no alarm desk, no notifications.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            envvar="VITALLOOM_STREAM__HTTP__LISTEN",
            help="host:port that serves /metrics, /ready and /live; empty: no HTTP.",
        ),
    ] = "127.0.0.1:9101",
    log_format: Annotated[
        str, typer.Option(envvar="VITALLOOM_STREAM__LOG_FORMAT", help="Log format: plain, or json (one object a line).")
    ] = "plain",
) -> None:
    """Run the data centre in one process, without Kafka.

    Receives readings from edge agents, scores them, raises alarms, stores all in SQLite and notifies people (--desk).
    """
    from stream.config import parse_options
    from stream.embedded.process import run_stream

    http, form = parse_options(listen, log_format)
    raise typer.Exit(run_stream(site, data, http=http, log_format=form, desk=desk))

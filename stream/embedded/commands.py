"""The command `vitalloom stream`."""

from pathlib import Path
from typing import Annotated

import typer


def stream(
    site: Annotated[
        Path, typer.Option(envvar="VITALLOOM_SITE", help="Site folder: registry, and the identity of ingest.")
    ] = Path("site"),
    data: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("data"),
    desk: Annotated[
        Path | None,
        typer.Option(
            envvar="VITALLOOM_STREAM__DESK",
            help="TOML file of the alarm desk, which calls people; see vitalloom desk --sample-config. Its section "
            "kafka is not used. Default: no people are called.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            envvar="VITALLOOM_STREAM__HTTP__LISTEN",
            help="host:port for /metrics, /ready and /live; empty: no HTTP.",
        ),
    ] = "127.0.0.1:9101",
    log_format: Annotated[
        str, typer.Option(envvar="VITALLOOM_STREAM__LOG_FORMAT", help="Log format: plain, or json (one object a line).")
    ] = "plain",
) -> None:
    """Run the data centre in one process, without Kafka: receive from edges, judge, store, acknowledge, call people."""
    from stream.config import parse_options
    from stream.embedded.process import run_stream

    http, form = parse_options(listen, log_format)
    raise typer.Exit(run_stream(site, data, http=http, log_format=form, desk=desk))

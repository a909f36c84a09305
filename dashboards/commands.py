"""The command `vitalloom dashboards`: build, check, publish."""

from pathlib import Path
from typing import Annotated

import typer

from dashboards.files import HERE, build, check
from dashboards.provisioning import TOKEN_FILE

dashboards = typer.Typer(
    help="Grafana dashboards and alert rules: build, check, publish.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

IntoOption = Annotated[Path, typer.Option("--into", help="Folder that has, or will get, grafana/ and provisioning/.")]
BucketOption = Annotated[
    str, typer.Option(help="InfluxDB bucket of the alert rules: influx.bucket of the store writer.")
]
TokenOption = Annotated[str, typer.Option(help="Path, on the Grafana host, of the file with the InfluxDB read token.")]
GrafanaOption = Annotated[str, typer.Option("--url", envvar="VITALLOOM_GRAFANA_URL", help="URL of Grafana.")]
KeyOption = Annotated[
    Path,
    typer.Option(
        "--token-file", envvar="VITALLOOM_GRAFANA_TOKEN_FILE", help="File with a Grafana service account token."
    ),
]


@dashboards.command("build")
def build_files(
    into: IntoOption = HERE, bucket: BucketOption = "vitals", reader_token: TokenOption = TOKEN_FILE
) -> None:
    """Write the dashboards and provisioning files."""
    written = build(into, bucket, reader_token)
    typer.echo("\n".join(f"written: {one}" for one in written) or "all files are up to date")


@dashboards.command("check")
def check_files(
    into: IntoOption = HERE,
    bucket: BucketOption = "vitals",
    reader_token: TokenOption = TOKEN_FILE,
    url: Annotated[
        str | None,
        typer.Option("--url", help="URL of a Grafana whose dashboards are checked instead.", show_default=False),
    ] = None,
    token_file: KeyOption = Path("grafana.token"),
) -> None:
    """Check whether the dashboard files, or the dashboards of a Grafana server, are up to date.

    Exit status 1 if not; lists what differs.
    """
    if url is None:
        check(into, bucket, reader_token)
        typer.echo("all files are up to date")
        return
    from dashboards.publish import differences

    found = differences(url, token_file)
    typer.echo("\n".join(found) or "all dashboards are up to date")
    if found:
        raise typer.Exit(1)


@dashboards.command("publish")
def publish_all(url: GrafanaOption = "http://127.0.0.1:3000", token_file: KeyOption = Path("grafana.token")) -> None:
    """Create or update the folder and the dashboards in a running Grafana."""
    from dashboards.publish import publish

    result = publish(url, token_file)
    typer.echo("\n".join([*result.changes, *(f"up to date: {one}" for one in result.unchanged)]))

"""`vitalloom dashboards`: build, check, publish."""

from pathlib import Path
from typing import Annotated

import typer

from dashboards.files import HERE, build, check
from dashboards.provisioning import TOKEN_FILE

dashboards = typer.Typer(
    help="What Grafana shows.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)

IntoOption = Annotated[Path, typer.Option("--into", help="Folder of `grafana/` and `provisioning/`.")]
BucketOption = Annotated[str, typer.Option(help="Whose alarms the rules watch: `bucket` of the store's configuration.")]
TokenOption = Annotated[str, typer.Option(help="Where Grafana finds the token that reads the database.")]
GrafanaOption = Annotated[str, typer.Option("--url", envvar="VITALLOOM_GRAFANA_URL", help="Address of Grafana.")]
KeyOption = Annotated[
    Path, typer.Option("--token-file", envvar="VITALLOOM_GRAFANA_TOKEN_FILE", help="File with a token of Grafana's.")
]


@dashboards.command("build")
def build_files(
    into: IntoOption = HERE, bucket: BucketOption = "vitals", reader_token: TokenOption = TOKEN_FILE
) -> None:
    """Write dashboards and provisioning files as the code makes them."""
    written = build(into, bucket, reader_token)
    typer.echo("\n".join(f"written: {one}" for one in written) or "all files were as they should be")


@dashboards.command("check")
def check_files(
    into: IntoOption = HERE,
    bucket: BucketOption = "vitals",
    reader_token: TokenOption = TOKEN_FILE,
    url: Annotated[
        str | None, typer.Option("--url", help="Compare with this Grafana instead.", show_default=False)
    ] = None,
    token_file: KeyOption = Path("grafana.token"),
) -> None:
    """Say which files, or which dashboards of a Grafana, are not as the code makes them."""
    if url is None:
        check(into, bucket, reader_token)
        typer.echo("all files are as the code makes them")
        return
    from dashboards.publish import differences

    found = differences(url, token_file)
    typer.echo("\n".join(found) or "all dashboards are as the code makes them")
    if found:
        raise typer.Exit(1)


@dashboards.command("publish")
def publish_all(url: GrafanaOption = "http://127.0.0.1:3000", token_file: KeyOption = Path("grafana.token")) -> None:
    """Bring folder and dashboards into a Grafana that runs. Running it again changes nothing."""
    from dashboards.publish import publish

    result = publish(url, token_file)
    typer.echo("\n".join([*result.done, *(f"as it should be: {one}" for one in result.same)]))

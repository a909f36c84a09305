"""The commands of a whole site: `vitalloom site`. What they do lives elsewhere, and is loaded when it is called."""

from pathlib import Path
from typing import Annotated, Final

import typer

site = typer.Typer(
    help="A whole site: make its folder, run it on this machine or in containers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The site's folder.")]
_SITE: Final = Path("site")


@site.command()
def init(
    folder: FolderArgument = _SITE,
    name: Annotated[str, typer.Option(help="What the site is called, in its certificates.")] = "vitalloom",
    host: Annotated[
        str, typer.Option(help="Where devices reach it: a name or an address. The default is for this machine alone.")
    ] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(min=1, max=65_535, help="Where devices enrol.")] = 8_443,
    broker_port: Annotated[int, typer.Option(min=1, max=65_535, help="Where devices speak MQTT.")] = 8_883,
    ports_from: Annotated[
        int | None,
        typer.Option(
            min=1_024, max=65_500, show_default=False, help="Other ports for Kafka and the rest, one after the other."
        ),
    ] = None,
    user: Annotated[
        str, typer.Option(help="Who may answer alarms; the password is shown once.", show_default="you")
    ] = "",
    encrypt_root: Annotated[
        bool, typer.Option("--encrypt-root", help="Ask for a passphrase of the root key's file.")
    ] = False,
) -> None:
    """Make a site's folder: authority, registry, configuration, secrets. Again: what is missing."""
    from deploy.begin import begin

    passphrase = ""
    if encrypt_root:
        passphrase = typer.prompt("passphrase of the root key", hide_input=True, confirmation_prompt=True)
    begin(
        folder, name=name, host=host, registry_port=registry_port, broker_port=broker_port, first_port=ports_from,
        passphrase=passphrase, user=user,
    )  # fmt: skip


@site.command()
def run(
    folder: FolderArgument = _SITE,
    demo: Annotated[
        bool, typer.Option("--demo", help="With simulated patients, and a phone that shows alarms.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that judge. Default: site.toml.", show_default=False)
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="End by itself after so long: 90s, 45m.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write the last screen to this file, as SVG.", show_default=False)
    ] = None,
) -> None:
    """Run the whole site on this machine, from the description that docker-compose.yml is made of. Ctrl-C ends it."""
    from deploy.run import run as run_site
    from simulators.ward.options import milliseconds

    for_s = None if for_ is None else milliseconds("--for", for_) / 1_000
    raise typer.Exit(run_site(folder, demo=demo, workers=workers, for_s=for_s, picture=picture))


@site.command()
def compose() -> None:
    """Print docker-compose.yml, made of the description of a site. The one in the repository is this text."""
    from deploy.compose import text

    typer.echo(text(), nl=False)


@site.command()
def tools(
    install: Annotated[bool, typer.Option("--install", help="Fetch or build what is missing, once.")] = False,
) -> None:
    """Which servers are on this machine, for `vitalloom site run`; containers bring their own."""
    from deploy.begin import show_tools

    raise typer.Exit(show_tools(install=install))


@site.command()
def prepare(
    folder: FolderArgument,
    kafka: Annotated[str, typer.Option(help="host:port of Kafka.")],
    influxdb: Annotated[str, typer.Option(help="http://host:port of InfluxDB.")],
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Of the log.")] = 12,
) -> None:
    """Set InfluxDB up, make buckets, tokens and Kafka's topics, as far as they are missing: a step of a start."""
    from deploy.prepare import prepare as prepare_site

    made = prepare_site(folder, kafka=kafka, influxdb=influxdb, partitions=partitions)
    typer.echo("\n".join(f"made: {one}" for one in made) or "everything was there")


@site.command("enrol-demo")
def enrol_demo(folder: FolderArgument) -> None:
    """Invite, enrol and bind the devices of the demo, as far as they are missing. A step of a demo's start."""
    from deploy.demo import prepare as prepare_demo

    done = prepare_demo(folder)
    typer.echo("\n".join(f"done: {one}" for one in done) or "everybody was there")


@site.command()
def wearables(folder: FolderArgument) -> None:
    """The simulated wearables of the demo, in real time."""
    from deploy.demo import run_wearables

    raise typer.Exit(run_wearables(folder))


@site.command()
def phone(
    listen: Annotated[str, typer.Option(help="host:port to take notifications at.")],
    file: Annotated[Path, typer.Option(help="Where it keeps what it showed.")],
) -> None:
    """A phone that does not exist: shows what the desk sends by webhook. Part of the demo."""
    from simulators.phone import run as run_phone

    host, _, port = listen.rpartition(":")
    raise typer.Exit(run_phone(host, int(port), file))


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Site folder, made by `vitalloom site init`: examine all of it.", show_default=False
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(help="Folder of certificates, registry and broker files to examine.", show_default=False),
    ] = None,
    ingest_config: Annotated[
        Path | None,
        typer.Option("--ingest", help="Ingest's TOML file: examine Kafka and its topics.", show_default=False),
    ] = None,
    worker_config: Annotated[
        Path | None,
        typer.Option("--worker", help="Worker's TOML file: examine Kafka and the workers' lag.", show_default=False),
    ] = None,
    store_config: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Store writer's TOML file: examine Kafka, its lag and InfluxDB.", show_default=False
        ),
    ] = None,
    edge_config: Annotated[
        Path | None,
        typer.Option("--edge", help="Edge's TOML file: examine identity, broker, disk and models.", show_default=False),
    ] = None,
    process: Annotated[
        list[str] | None,
        typer.Option(help="http.listen of a process that has to be ready. May be repeated.", show_default=False),
    ] = None,
    pause: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between the two measurements of lag.")] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also list the checks that passed.")] = False,
) -> None:
    """Find out what is wrong with a site or an edge, and how to fix it. Changes nothing.

    Exit status 1 if something is wrong.
    """
    from deploy.doctor import Patient, main

    if folder is not None:
        from deploy.whole import patient

        raise typer.Exit(main(patient(folder, pause_s=pause), as_json=as_json, everything=everything))
    if not (site or ingest_config or worker_config or store_config or edge_config or process):
        raise typer.BadParameter("name what to examine: DIR, --site, --ingest, --worker, --store, --edge or --process")
    found = Patient(
        site=site,
        ingest=ingest_config,
        worker=worker_config,
        store=store_config,
        edge=edge_config,
        processes=tuple(process or ()),
        pause_s=pause,
    )
    raise typer.Exit(main(found, as_json=as_json, everything=everything))

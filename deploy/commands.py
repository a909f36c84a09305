"""The commands `vitalloom site` and `vitalloom doctor`. Their implementation is imported when they are called."""

from pathlib import Path
from typing import Annotated, Final

import typer

site = typer.Typer(
    help="Create the folder of a site, run the site on this machine, prepare containers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the site.")]
_SITE: Final = Path("site")


@site.command()
def init(
    folder: FolderArgument = _SITE,
    name: Annotated[str, typer.Option(help="Name of the site, used in its certificates.")] = "vitalloom",
    host: Annotated[
        str, typer.Option(help="Host name or IP address for devices. The default is reachable from this machine only.")
    ] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port for the enrolment of devices.")] = 8_443,
    broker_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the MQTT broker for devices.")] = 8_883,
    ports_from: Annotated[
        int | None,
        typer.Option(
            min=1_024,
            max=65_500,
            show_default=False,
            help="First of consecutive ports for Kafka and the other processes.",
        ),
    ] = None,
    time_zone: Annotated[
        str,
        typer.Option(
            help="Time zone in which times are shown to people, an IANA name such as Europe/Berlin.",
            show_default="that of this machine",
        ),
    ] = "",
    user: Annotated[
        str,
        typer.Option(help="First user of the alarm desk; the password is shown once.", show_default="your user name"),
    ] = "",
    encrypt_root: Annotated[
        bool, typer.Option("--encrypt-root", help="Encrypt the root key with a passphrase, which is asked for.")
    ] = False,
) -> None:
    """Create the folder of a site, or the missing parts of one.

    The folder holds the certificate authority, the registry, configuration and secrets. Existing files are kept.
    """
    from deploy.init import init_site
    from runtime.time_zone import site_time_zone

    passphrase = ""
    if encrypt_root:
        passphrase = typer.prompt("passphrase for the root key", hide_input=True, confirmation_prompt=True)
    init_site(
        folder,
        name=name,
        host=host,
        registry_port=registry_port,
        broker_port=broker_port,
        first_port=ports_from,
        time_zone=site_time_zone(time_zone),
        passphrase=passphrase,
        user=user,
    )


@site.command()
def run(
    folder: FolderArgument = _SITE,
    demo: Annotated[
        bool, typer.Option("--demo", help="Also run simulated patients and a simulated phone for alarms.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Number of worker processes. Default: workers in site.toml.", show_default=False
        ),
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="Stop after this time, for instance 90s or 45m.", show_default=False)
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="SVG file for the last screen.", show_default=False)] = None,
    grafana: Annotated[
        bool, typer.Option("--grafana/--no-grafana", help="Run Grafana, if it is installed on this machine.")
    ] = True,
) -> None:
    """Run all processes of the site on this machine, without containers. Ctrl-C stops them."""
    from deploy.run import run as run_site
    from simulators.ward.options import milliseconds

    for_s = None if for_ is None else milliseconds("--for", for_) / 1_000
    raise typer.Exit(run_site(folder, demo=demo, workers=workers, for_s=for_s, picture=picture, grafana=grafana))


@site.command()
def compose() -> None:
    """Print docker-compose.yml. The file in the repository is this output."""
    from deploy.compose import text

    typer.echo(text(), nl=False)


@site.command()
def tools(
    install: Annotated[
        bool, typer.Option("--install", help="Install the missing servers: Mosquitto, Kafka, InfluxDB.")
    ] = False,
) -> None:
    """Show which servers are installed on this machine.

    `vitalloom site run` needs Mosquitto, Kafka and InfluxDB; containers include them. Exit status 1 if one is missing.
    """
    from deploy.init import show_tools

    raise typer.Exit(show_tools(install=install))


@site.command()
def prepare(
    folder: FolderArgument,
    kafka: Annotated[str, typer.Option(help="Address of Kafka, host:port.")],
    influxdb: Annotated[str, typer.Option(help="URL of InfluxDB, http://host:port.")],
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Number of partitions of Kafka topics.")] = 12,
) -> None:
    """Create missing Kafka topics and InfluxDB buckets and tokens.

    Runs on each start of a site.
    """
    from deploy.prepare import prepare as prepare_site

    made = prepare_site(folder, kafka=kafka, influxdb=influxdb, partitions=partitions)
    typer.echo("\n".join(f"created: {one}" for one in made) or "nothing to create")


@site.command("enrol-demo")
def enrol_demo(folder: FolderArgument) -> None:
    """Enrol the simulated devices of the demo and assign them to beds.

    Runs on each start of a demo; existing devices are kept.
    """
    from deploy.demo import prepare as prepare_demo

    done = prepare_demo(folder)
    typer.echo("\n".join(f"done: {one}" for one in done) or "nothing to do")


@site.command()
def wearables(folder: FolderArgument) -> None:
    """Run the simulated wearables of the demo, in real time."""
    from deploy.demo import run_wearables

    raise typer.Exit(run_wearables(folder))


@site.command()
def phone(
    listen: Annotated[str, typer.Option(help="Listen address for notifications, host:port.")],
    file: Annotated[Path, typer.Option(help="NDJSON file to which received notifications are appended.")],
) -> None:
    """Run the simulated phone of the demo, which shows notifications of the desk."""
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
        typer.Option(
            help="Health endpoint (http.listen) of a process that has to be ready. May be repeated.", show_default=False
        ),
    ] = None,
    pause: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between the two measurements of lag.")] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also list the checks that passed.")] = False,
) -> None:
    """Find problems of a site or an edge and how to fix them. Changes nothing.

    Exit status 1 if there is an error.
    """
    from deploy.doctor import DoctorTargets, main

    if folder is not None:
        from deploy.site_targets import site_targets

        raise typer.Exit(main(site_targets(folder, pause_s=pause), as_json=as_json, everything=everything))
    if not (site or ingest_config or worker_config or store_config or edge_config or process):
        raise typer.BadParameter("name what to examine: DIR, --site, --ingest, --worker, --store, --edge or --process")
    found = DoctorTargets(
        site=site,
        ingest=ingest_config,
        worker=worker_config,
        store=store_config,
        edge=edge_config,
        processes=tuple(process or ()),
        pause_s=pause,
    )
    raise typer.Exit(main(found, as_json=as_json, everything=everything))

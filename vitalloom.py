"""The front door: one command whose sub-commands load their room only when they are called."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

import typer

from runtime.version import __version__

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

_GROUPS: Final = {
    "edge": ("edge.commands", "The agent beside the bed, and the machine that it runs on."),
    "pki": ("stream.site.commands", "Certificates and keys: begin a site, issue, renew, revoke, show."),
    "registry": ("stream.site.commands", "Who belongs: add devices, invite them, put them on patients."),
    "broker": ("stream.site.commands", "The files of the site's Mosquitto."),
    "audit": ("stream.site.commands", "The audit log."),
    "log": ("stream.topics.commands", "The topics in Kafka: make them, look at them, send dead letters again."),
    "store": ("stream.topics.commands", "The database: prepare it, write to it."),
    "desk": ("stream.desk.commands", "The alarm desk: call people until somebody answers; say who may answer."),
    "alarms": ("stream.desk.alarm_commands", "What stands, and answering it: list, ack, silence."),
    "export": ("stream.embedded.export_commands", "A patient's record as a file: FHIR resources as NDJSON."),
    "dashboards": ("dashboards.commands", "What Grafana shows: build, check, publish."),
    "site": ("deploy.commands", "A whole site: make its folder, run it on this machine or in containers."),
}
"""Commands with commands of their own: where they are, and what the help says of them without looking there."""

_EXTRAS: Final = {
    "edge.commands": "edge",
    "stream.topics.commands": "cluster",
    "stream.desk.commands": "desk",
    "dashboards.commands": "dashboards",
    "deploy.commands": "site",
}


app = typer.Typer(
    name="vitalloom",
    help=f"Remote patient monitoring: sealed vital signs from the wrist to an alarm that says why.\n\n{NOT_A_DEVICE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _room(module: str, *, extra: str) -> ModuleType:
    """Import the module behind a command, or say which part of vitalloom is not installed and how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.split(".")[0] in _OWN:
            raise
        from runtime.errors import MissingExtra

        raise MissingExtra(extra=extra, module=missing) from error


_OWN: Final = frozenset({"vitals", "wire", "runtime", "models", "edge", "stream", "simulators", "dashboards", "deploy"})


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"vitalloom {__version__}")
        raise typer.Exit


@app.command()
def ward(
    scenario: Annotated[
        str, typer.Option(help="Scenario of the simulated patients; 'list' prints all scenarios.")
    ] = "mixed",
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Parquet or CSV file, or folder, of recorded stays to replay instead of a scenario.",
            show_default=False,
        ),
    ] = None,
    patients: Annotated[int, typer.Option(min=1, max=100_000, help="Number of patients.")] = 8,
    edges: Annotated[
        int, typer.Option(min=1, max=64, help="Number of edge agents; patients are assigned to them in turn.")
    ] = 2,
    speed: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="Maximum speed, in simulated seconds per real second. A busy machine is slower but loses nothing.",
        ),
    ] = 30.0,
    duration: Annotated[
        str | None,
        typer.Option(
            help="Simulated time to run, as 90s, 45m, 12h or 2d. Default: until Ctrl-C or the end of the replay.",
            show_default=False,
        ),
    ] = None,
    cadence: Annotated[
        str | None,
        typer.Option(
            help="Time between two readings of a wearable. Default: 5s; 60s with --replay.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same patients and readings.")] = 1,
    broker: Annotated[
        str | None,
        typer.Option(
            help="'mosquitto' starts a Mosquitto with TLS and access list; host:port is a running broker without TLS.",
            show_default="the embedded broker",
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            show_default="the models that come with vitalloom",
            help="Folder of the models that edge agents run. With an empty folder rules judge alone.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="New or empty folder for store and outboxes. Default: a temporary folder, deleted at the end.",
            show_default=False,
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="Fault to inject: loss=5%, duplicate=2%, reorder=2%, corrupt=0.1%, delay=50ms, jitter=20ms, "
            "cut=10s-40s, skew=-1h, broker-kill=10s (kill the broker after 10 s), edge-kill=20s. May be repeated.",
            show_default=False,
        ),
    ] = None,
    apart: Annotated[bool, typer.Option("--apart", help="Run every edge agent in a process of its own.")] = False,
    headless: Annotated[
        bool, typer.Option("--headless", help="Show a line of progress and print alarms instead of the live table.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object on the last line.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="SVG file to write the last screen to.", show_default=False)
    ] = None,
) -> None:
    """Run a simulated ward: patients on wearables, MQTT broker, edge agents, data centre and a live screen.

    Ctrl-C ends it cleanly and prints a summary that accounts for every reading.
    """
    module = _room("simulators.ward.command", extra="simulators")
    raise typer.Exit(
        module.main(
            module.WardOptions(
                scenario=scenario,
                replay=replay,
                patients=patients,
                edges=edges,
                speed=speed,
                duration=duration,
                cadence=cadence,
                seed=seed,
                broker=broker,
                models=models,
                data=data,
                faults=tuple(fault or ()),
                apart=apart,
                headless=headless,
                as_json=as_json,
                picture=picture,
            )
        )
    )


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV with a header; the columns are in docs/scores.md.")],
    out: Annotated[Path | None, typer.Option(help="Write here instead of to the terminal.", show_default=False)] = None,
) -> None:
    """Add NEWS2, qSOFA, SIRS, MEWS and shock index to a spreadsheet of vital signs. An empty cell is not measured."""
    module = _room("models.spreadsheet", extra="stream")
    raise typer.Exit(module.main(file, out))


@app.command()
def enrol(
    invitation: Annotated[
        str, typer.Argument(help="The line from the registry, a file that holds it, or - for standard input.")
    ] = "-",
    folder: Annotated[Path, typer.Option("--dir", help="Where this device's identity is to live.")] = Path("identity"),
    again: Annotated[bool, typer.Option("--again", help="Replace the identity that is there.")] = False,
) -> None:
    """Make this device one of a site: make its keys here, prove to have them, keep what comes back.

    A line on the command line can be seen by other users of this machine; paste it, or name a file.
    """
    module = _room("wire.enrol.client", extra="edge")
    raise typer.Exit(module.main(invitation, folder, again=again))


@app.command()
def stream(
    site: Annotated[
        Path, typer.Option(envvar="VITALLOOM_SITE", help="The site's folder: who is who, and the ingest's keys.")
    ] = Path("site"),
    data: Annotated[Path, typer.Option(help="Where the store lives.")] = Path("data"),
    listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            envvar="VITALLOOM_STREAM__HTTP__LISTEN",
            help="host:port of /metrics, /ready and /live; empty: nowhere.",
        ),
    ] = "127.0.0.1:9101",
    log_format: Annotated[
        str, typer.Option(envvar="VITALLOOM_STREAM__LOG_FORMAT", help="plain, or json: one object a line.")
    ] = "plain",
) -> None:
    """Run the data centre in one process: open what edges send, judge it, store it, sign for it."""
    module = _room("stream.embedded.process", extra="stream")
    http, form = _room("stream.config", extra="stream").told(listen, log_format)
    raise typer.Exit(module.run_stream(site, data, http=http, log_format=form))


@app.command()
def ingest(
    site: Annotated[
        Path, typer.Option(envvar="VITALLOOM_SITE", help="The site's folder: who is who, and the ingest's keys.")
    ] = Path("site"),
    data: Annotated[Path, typer.Option(help="Where it keeps which sessions it knows.")] = Path("data"),
    config: Annotated[
        Path | None, typer.Option(help="The ingest's TOML file; see --sample-config.", show_default=False)
    ] = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and leave.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and leave.")] = False,
) -> None:
    """Open what edges send, pass it to Kafka, and sign for it when the database has it."""
    if sample_config:
        typer.echo(_sample("stream.ingest"))
        raise typer.Exit
    _room("stream.ingest.kafka_ingest", extra="cluster")
    module = _room("stream.embedded.process", extra="stream")
    found = module.ingest_config(config)
    if check_config:
        typer.echo("the configuration can be used")
        raise typer.Exit
    raise typer.Exit(module.run_ingest(site, data, found))


@app.command()
def worker(
    config: Annotated[
        Path | None, typer.Option(help="The worker's TOML file; see --sample-config.", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option(help="What carries it: faust, or plain (aiokafka alone).")] = "faust",
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and leave.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and leave.")] = False,
) -> None:
    """Judge readings from Kafka: scores, windows and alarms. As many of these as there are partitions may run."""
    if sample_config:
        typer.echo(_sample("stream.engine"))
        raise typer.Exit
    module = _room("stream.topics.admin", extra="cluster")
    if engine not in list(module.Engine):
        raise typer.BadParameter(f"{engine}: known are {', '.join(module.Engine)}")
    found = module.worker_config(config)
    if check_config:
        typer.echo("the configuration can be used")
        raise typer.Exit
    raise typer.Exit(module.run_worker(found, module.Engine(engine)))


@app.command()
def wearable(
    identity: Annotated[
        Path, typer.Option(help="Identity folder of an enrolled wearable, made by `vitalloom enrol`.")
    ] = Path("identity"),
    scenario: Annotated[
        str, typer.Option(help="Scenario of the simulated patient; `vitalloom ward --scenario list` prints all.")
    ] = "mixed",
    cadence: Annotated[str, typer.Option(help="Time between two readings, as 5s or 1m.")] = "5s",
) -> None:
    """Run one simulated wearable in real time. It has to be enrolled, like a real one."""
    module = _room("simulators.device", extra="simulators")
    raise typer.Exit(module.main(identity, scenario=scenario, cadence_ms=module.cadence_of(cadence)))


@app.command()
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A folder of `vitalloom site init`: all of it.", show_default=False),
    ] = None,
    site: Annotated[
        Path | None, typer.Option(help="A site's folder: certificates, registry, broker.", show_default=False)
    ] = None,
    ingest_config: Annotated[
        Path | None, typer.Option("--ingest", help="An ingest's TOML file: Kafka and its topics.", show_default=False)
    ] = None,
    worker_config: Annotated[
        Path | None,
        typer.Option("--worker", help="A worker's: Kafka, and whether workers keep up.", show_default=False),
    ] = None,
    store_config: Annotated[
        Path | None, typer.Option("--store", help="A store writer's: Kafka, lag, InfluxDB.", show_default=False)
    ] = None,
    edge_config: Annotated[
        Path | None, typer.Option("--edge", help="An edge's: identity, broker, disk, models.", show_default=False)
    ] = None,
    process: Annotated[
        list[str] | None,
        typer.Option(help="http.listen of a process that has to be ready; may be repeated.", show_default=False),
    ] = None,
    pause: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks at what waits.")] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show what is well, too.")] = False,
) -> None:
    """Say what is wrong with a site or an edge, and the cure. Changes nothing. Status 1 if something is wrong."""
    if folder is not None:
        found = _room("deploy.whole", extra="site").patient(folder, pause_s=pause)
        raise typer.Exit(_room("deploy.doctor", extra="site").main(found, as_json=as_json, everything=everything))
    if not (site or ingest_config or worker_config or store_config or edge_config or process):
        raise typer.BadParameter("say what to look at: DIR, --site, --ingest, --worker, --store, --edge, --process")
    module = _room("deploy.doctor", extra="cluster")
    patient = module.Patient(
        site=site,
        ingest=ingest_config,
        worker=worker_config,
        store=store_config,
        edge=edge_config,
        processes=tuple(process or ()),
        pause_s=pause,
    )
    raise typer.Exit(module.main(patient, as_json=as_json, everything=everything))


@app.command()
def health(
    where: Annotated[str, typer.Argument(help="Its http.listen: a port of this machine, host:port, or a URL.")],
    alive: Annotated[
        bool, typer.Option("--live", help="Only whether it should be started anew, not whether it gets on.")
    ] = False,
) -> None:
    """Ask a running process whether there is progress: status 0, or 1 and why not. Needs no shell, for containers."""
    from runtime.health import main as ask

    raise typer.Exit(ask(where, alive=alive))


@app.command()
def predict(
    task: Annotated[str, typer.Argument(help="sepsis, heart or rhythm.")],
    data: Annotated[Path, typer.Option(help="Recorded patients; columns are in docs/models.md.")],
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    form: Annotated[str, typer.Option(help="Of the heart model: 'clinic' or 'home'.")] = "clinic",
    models: Annotated[Path | None, typer.Option(help="Folder of models.", show_default="the released ones")] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="A further key whose models are believed, in hex.", show_default=False)
    ] = None,
) -> None:
    """Score recorded patients with the released models, step by step, as an edge would."""
    module = _room("models.predict", extra="models")
    raise typer.Exit(module.main(task, data, out, form=form, models=models, keys=tuple(key or ())))


@app.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="sepsis, heart, heart-home or rhythm.")],
    data: Annotated[Path, typer.Option(help="The set's file, or the folder of all sets.")],
    work: Annotated[Path, typer.Option(help="The working folder of `vitalloom train`.")] = Path("work"),
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report.", show_default="report, in the working folder")
    ] = None,
    seed: Annotated[int, typer.Option(help="That of the training run.")] = 0,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sepsis: working folder of another run to judge beside it; may be repeated.", show_default=False
        ),
    ] = None,
) -> None:
    """Judge a training run on patients that its nets have not seen: tables, plots and JSON."""
    module = _room("models.evaluation.commands", extra="train")
    raise typer.Exit(module.main(task, data, work, out, seed=seed, against=tuple(against or ())))


@app.command()
def release(
    task: Annotated[str, typer.Argument(help="sepsis, heart, heart-home or rhythm.")],
    version: Annotated[str, typer.Option(help="Three numbers; an edge accepts none below the last.")],
    key: Annotated[Path, typer.Option(help="File of the Ed25519 key that signs, 32 bytes in hex.")],
    into: Annotated[Path, typer.Option(help="Folder of released models.")],
    work: Annotated[Path, typer.Option(help="The working folder of `vitalloom train`.")] = Path("work"),
) -> None:
    """Release the final model of an evaluated run: files, signed passport, card."""
    module = _room("models.evaluation.commands", extra="train")
    raise typer.Exit(module.release(task, work, into, version=version, key=key))


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="sepsis, heart, heart-home or rhythm.")],
    data: Annotated[Path, typer.Option(help="The set's file, or the folder of all sets.")],
    work: Annotated[Path, typer.Option(help="Working folder; who is interrupted goes on from there.")] = Path("work"),
    folds: Annotated[str, typer.Option(help="'all', or some: 1 to 5, and 6 for everybody.")] = "all",
    seed: Annotated[int, typer.Option(help="Of folds and first weights.")] = 0,
    device: Annotated[str, typer.Option(help="'auto', 'cpu' or 'cuda'.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tiny model in a minute, to see that all of it works.")
    ] = False,
    without_ages: Annotated[
        bool, typer.Option("--without-ages", help="Sepsis, an ablation: nobody is told how old a value is.")
    ] = False,
    second: Annotated[
        Path | None,
        typer.Option(help="Sepsis: the folder of icu2012, learned from as a second task.", show_default=False),
    ] = None,
) -> None:
    """Train a model: five folds by patient, then everybody; calibrate it and export it as int8."""
    module = _room("models.training.commands", extra="train")
    raise typer.Exit(
        module.main(
            task,
            data,
            work,
            folds=folds,
            seed=seed,
            device=device,
            threads=threads,
            quick=quick,
            without_ages=without_ages,
            second=second,
        )
    )


def _sample(room: str) -> str:
    return (Path(importlib.import_module(room).__path__[0]) / "sample.toml").read_text(encoding="utf-8")


def mount(wanted: str | None) -> None:
    """Load the room of the group that is called; of the others the help needs to know no more than a sentence."""
    for name, (module, text) in _GROUPS.items():
        if name == wanted:
            app.add_typer(getattr(_room(module, extra=_EXTRAS.get(module, "stream")), name), name=name)
        else:
            app.add_typer(_closed(text), name=name)


def _closed(text: str) -> typer.Typer:
    group = typer.Typer(help=text)
    group.callback()(lambda: None)
    return group


def main() -> None:
    """Run the command line. An error that was foreseen is one sentence on stderr, not a trace."""
    try:
        mount(sys.argv[1] if len(sys.argv) > 1 else None)
        app(prog_name="vitalloom")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _foreseen(error):
            raise
        typer.echo(f"vitalloom: {error}", err=True)
        sys.exit(2)


def _foreseen(error: Exception) -> bool:
    """Every room has one base class for the errors that it explains; all of them live in its `errors` module."""
    return any(
        kind.__module__.endswith(".errors") and kind.__module__.split(".")[0] in _OWN for kind in type(error).__mro__
    )


if __name__ == "__main__":
    main()

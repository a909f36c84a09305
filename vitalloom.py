"""The front door: a table of commands, each of which loads its room only when it is called."""

import importlib
import sys
from typing import Annotated, Final, NamedTuple

import typer

from runtime.errors import MissingExtra
from runtime.version import __version__

ABOUT: Final = "Remote patient monitoring: encrypted vital signs from wearables to alarms that give their reason."
NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."


class Command(NamedTuple):
    """One command of `vitalloom`, or a group of commands."""

    module: str  # which has a function or a group with the name of the command
    extra: str  # the extra of the package that it needs; empty: none
    help: str  # one line for `vitalloom --help`, which loads no room


COMMANDS: Final = {
    "ward": Command("simulators.commands", "simulators", "Run a simulated ward, from wearables to alarms."),
    "wearable": Command("simulators.commands", "simulators", "Run one simulated, enrolled wearable."),
    "edge": Command("edge.commands", "edge", "Run the bedside agent, and set up the machine for it."),
    "enrol": Command("wire.enrol.commands", "edge", "Enrol this device at a site."),
    "stream": Command("stream.embedded.commands", "stream", "Run the data centre in one process, without Kafka."),
    "ingest": Command("stream.ingest.commands", "cluster", "Receive frames from edges, append them to Kafka."),
    "worker": Command("stream.engine.commands", "cluster", "Compute scores and alarms from readings in Kafka."),
    "store": Command("stream.store.commands", "cluster", "Prepare InfluxDB, and write judged readings to it."),
    "topics": Command("stream.topics.commands", "cluster", "The Kafka topics: create, inspect, resend dead letters."),
    "desk": Command("stream.desk.commands", "desk", "The alarm desk: call people until an alarm is answered."),
    "alarms": Command("stream.desk.alarm_commands", "stream", "List alarms, acknowledge, silence and measure them."),
    "observe": Command("stream.desk.observe_commands", "stream", "Enter what is seen and measured at the bed."),
    "orders": Command("stream.orders.commands", "stream", "What is watched of patients: check, show, set orders."),
    "export": Command("stream.embedded.fhir_export", "stream", "Export a patient's record as FHIR resources."),
    "pki": Command("stream.site.commands", "stream", "Certificates and keys of a site."),
    "registry": Command("stream.site.commands", "stream", "Devices and their bindings to patients."),
    "broker": Command("stream.site.commands", "stream", "Write the configuration of the MQTT broker."),
    "audit": Command("stream.site.commands", "stream", "The audit log of the site."),
    "site": Command("deploy.commands", "site", "A whole site: create its folder, run it."),
    "doctor": Command("deploy.commands", "site", "Find what is wrong with a site or an edge."),
    "health": Command("runtime.commands", "", "Check whether a running process is healthy."),
    "dashboards": Command("dashboards.commands", "dashboards", "Grafana dashboards: build, check, publish."),
    "score": Command("models.commands", "", "Add NEWS2 and other scores to a spreadsheet."),
    "predict": Command("models.commands", "models", "Score recorded patients with the released models."),
    "train": Command("models.training.commands", "train", "Train a model on recorded patients."),
    "evaluate": Command("models.evaluation.commands", "train", "Evaluate a training run."),
    "release": Command("models.evaluation.commands", "train", "Release the model of an evaluated run."),
}

_ROOMS: Final = frozenset(
    {"vitals", "wire", "runtime", "models", "edge", "stream", "simulators", "dashboards", "deploy"}
)


def command_line(called: str | None = None) -> typer.Typer:
    """The command line.

    Args:
        called: the command whose room is loaded; of the others the help knows one line.

    Raises:
        MissingExtra: what the command needs is not installed.
    """
    app = typer.Typer(
        name="vitalloom",
        help=f"{ABOUT}\n\n{NOT_A_DEVICE}",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_options)
    for name, command in COMMANDS.items():
        if name != called:
            app.command(name, help=command.help)(_not_loaded)
            continue
        loaded = getattr(importlib.import_module(command.module), name)
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name)
        else:
            app.command(name)(loaded)
    return app


def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"vitalloom {__version__}")
        raise typer.Exit


def _not_loaded() -> None:
    """Stands for the commands that were not called; the help needs their names and lines alone."""


def main() -> None:
    """Run the command line. A foreseen error is one sentence on stderr, not a trace; its exit status is 2."""
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        command_line(called)(prog_name="vitalloom")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        _explain(_missing(error, called))
    except Exception as error:
        if not _foreseen(error):
            raise
        _explain(error)


def _missing(error: ModuleNotFoundError, called: str | None) -> MissingExtra:
    """Which extra brings the module. Raises the error itself if the module is ours, or no extra is known."""
    module = error.name or ""
    extra = COMMANDS[called].extra if called in COMMANDS else ""
    if not extra or module.split(".")[0] in _ROOMS:
        raise error
    return MissingExtra(extra=extra, module=module)


def _explain(error: Exception) -> None:
    typer.echo(f"vitalloom: {error}", err=True)
    sys.exit(2)


def _foreseen(error: Exception) -> bool:
    """Every room has one base class for the errors that it explains; all of them live in its `errors` module."""
    return any(
        kind.__module__.endswith(".errors") and kind.__module__.split(".")[0] in _ROOMS for kind in type(error).__mro__
    )


if __name__ == "__main__":
    main()

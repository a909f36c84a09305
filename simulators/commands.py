"""The commands `vitalloom ward` and `vitalloom wearable`."""

from pathlib import Path
from typing import Annotated

import typer


def ward(
    scenario: Annotated[
        str, typer.Option(help="Scenario of the simulated patients; 'list' prints all scenarios.")
    ] = "mixed",
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Parquet or CSV file, or folder, of recorded stays to replay instead of a scenario. Units are /min, "
            "%, mmHg and °C, inspired oxygen a fraction or %, age years, sex 1 or M male, 0 or F female; "
            "docs/simulators.md lists the columns.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            help="Unit of a column of --replay that has another one than documented, such as Temp=°F. May be repeated.",
            show_default=False,
        ),
    ] = None,
    patients: Annotated[int, typer.Option(min=1, max=100_000, help="Number of patients.")] = 8,
    edges: Annotated[
        int, typer.Option(min=1, max=64, help="Number of edge agents; patients are assigned to them in turn.")
    ] = 2,
    devices: Annotated[
        str,
        typer.Option(
            help="Devices of each patient: 1 measures everything; 2 are a patch and an oximeter, 3 add a cuff, 4 a "
            "thermometer, 5 a second oximeter, 6 a second cuff. 'mixed': some patients with one, others with 2 to 6, "
            "some of them behind two edges."
        ),
    ] = "mixed",
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
    desk: Annotated[
        bool | None,
        typer.Option(
            "--desk/--no-desk",
            help="Run the alarm desk: it calls people on demonstration phones, and they answer. Default: up to 300 "
            "patients.",
            show_default=False,
        ),
    ] = None,
    desk_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the alarm desk's API; 0: one that is free.")
    ] = 0,
    phone_port: Annotated[
        int,
        typer.Option(min=0, max=65_535, help="Port of the page with the demonstration phones; 0: one that is free."),
    ] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="SVG file to write the last screen to.", show_default=False)
    ] = None,
) -> None:
    """Run a simulated ward: wearables, MQTT broker, edge agents, data centre, alarm desk, phones and a live screen.

    Ctrl-C ends it cleanly and prints a summary that accounts for every reading, and with --replay for every charted
    value of its stays: sent, converted, unusable, superseded or left out. A row without patient or time is left out and
    named.
    """
    from simulators.ward.command import main
    from simulators.ward.options import WardOptions

    raise typer.Exit(
        main(
            WardOptions(
                scenario=scenario,
                replay=replay,
                units=tuple(unit or ()),
                patients=patients,
                edges=edges,
                devices=devices,
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
                desk=desk,
                desk_port=desk_port,
                phone_port=phone_port,
            )
        )
    )


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
    from simulators.device import cadence_of, main

    raise typer.Exit(main(identity, scenario=scenario, cadence_ms=cadence_of(cadence)))

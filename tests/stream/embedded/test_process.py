"""The process `vitalloom stream`: the plan that was ordered for a binding, and the alarm desk in the same process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from stream.config import KafkaConfig
from stream.embedded.process import ordered_plan
from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from tests.patience import PATIENCE_S
from tests.services.receivers import webhooks
from tests.stream.desk.data_centres import an_ill_reading
from tests.stream.desk.desks import ROOT, DeskHouse
from tests.stream.site.registries import FACTS
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from wire.identity import About


def test_the_data_centre_scores_with_the_scale_that_was_ordered(tmp_path: Path) -> None:
    registry = Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester").registry
    edge = registry.add_device("edge", who="tester")
    scales = {}
    for scale in (1, 2):
        wearable = registry.add_device("wearable", who="tester")
        scales[scale] = registry.bind(
            wearable_id=wearable, edge_id=edge, patient=f"P{scale}", bed=f"{scale}", spo2_scale=scale, who="tester"
        )

    plan_of = ordered_plan(RegistryDirectory(registry))

    found = {scale: plan_of(binding.hex()).spo2_scale for scale, binding in scales.items()}

    assert found == {1: 1, 2: 2}


@pytest.mark.parametrize(
    ("about", "group"),
    [
        (About(), PatientGroup.UNSTATED),
        (About(age_years=8.0), PatientGroup.CHILD),
        (About(age_years=30.0, is_pregnant=True), PatientGroup.PREGNANT),
        (About(age_years=30.0, is_male=True), PatientGroup.ADULT),
    ],
)
def test_the_data_centre_knows_for_whom_there_is_no_adult_score(
    about: About, group: PatientGroup, tmp_path: Path
) -> None:
    registry = Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester").registry
    edge, wearable = registry.add_device("edge", who="tester"), registry.add_device("wearable", who="tester")
    binding = registry.bind(wearable_id=wearable, edge_id=edge, patient="P", bed="1", about=about, who="tester")

    assert ordered_plan(RegistryDirectory(registry))(binding.hex()).group is group


@pytest.mark.services
def test_the_data_centre_calls_people_and_applies_what_they_answer(tmp_path: Path) -> None:
    Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester").close()
    (tmp_path / "store").mkdir()
    with Store(tmp_path / "store" / "store.sqlite") as store:  # before the process: an alarm that nobody was called for
        Engine(store, lambda _: MonitoringPlan()).apply([an_ill_reading(1)])
    with webhooks("takes") as (phone,):
        ways = {"push": phone.url, "sms": phone.url}
        house = DeskHouse(tmp_path, KafkaConfig(), {"anna": ways, "ben": ways})
        with a_stream(tmp_path, "--desk", str(house.config)) as process:
            wait_for(lambda: bool(phone.taken), process)
            anna = house.anna()
            for alarm in anna.alarms():
                anna.acknowledge(alarm)
            wait_for(lambda: all(alarm["confirmed"] for alarm in anna.alarms()), process)
            process.send_signal(signal.SIGTERM)
            _, problem = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, problem
    with Store(tmp_path / "store" / "store.sqlite") as store:
        monitor = PatientMonitor.restore(f"{1:08x}{0:024x}", store.state(f"{1:08x}{0:024x}"), MonitoringPlan())
        acknowledged = {alarm.acknowledged_by for alarm in monitor.open_alarms()}
    assert acknowledged == {"anna"}


@pytest.mark.services
def test_without_a_desk_it_says_that_no_people_are_called(tmp_path: Path) -> None:
    Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester").close()

    with a_stream(tmp_path) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "alarm desk" in line)

    assert "people are not notified of alarms; to configure one: --desk FILE" in line


@contextlib.contextmanager
def a_stream(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`vitalloom stream` without a broker."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vitalloom", "stream", "--data", "store", "--http-listen", "", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)

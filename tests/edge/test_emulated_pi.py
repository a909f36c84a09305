"""The edge on the processors of Raspberry Pis, emulated: the agent as it is, everything around it on this machine.

Outside the emulator: the registry, a real Mosquitto, `vitalloom stream`, simulated wearables. Inside: `vitalloom enrol`
and `vitalloom edge`. No figure of this says anything about the speed of a Pi.
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge.scoring import Scoring
from edge.status import Status
from edge.status import read as read_status
from models.artifacts import RELEASED, load_all
from simulators.broker import free_port
from tests.patience import PATIENCE_S
from tests.services.journey import Block, Journey
from tests.services.mosquitto import mosquitto_binary
from tests.services.pi import CPUS, EmulatedPi, here
from vitals.messages import Reading
from wire.identity import About

pytestmark = pytest.mark.services

ABOUT = About(age_years=71.0, is_male=True, chest_pain=2)
TOLERANCE = 1e-5
"""Of a probability, between processors. What was seen is 5e-7."""
BEGIN_WITHIN_S = 120.0
SCORES = """
import json, sys
import numpy as np
from models.artifacts import RELEASED, load_all
from models.runtime import engine_of, shaped
found, said = load_all(RELEASED), {}
for name, artifact in sorted(found.models.items()):
    engine = engine_of(artifact)
    golden = shaped(name, artifact.passport.golden.inputs)
    moved = {key: value * np.float32(0.9) for key, value in golden.items()}
    said[name] = [float(one) for inputs in (golden, moved) for one in engine(inputs)[0].ravel()] + [len(engine.name)]
import platform
print(json.dumps({"machine": platform.machine(), "refused": sorted(found.refused), "said": said}))
"""


class Bed(NamedTuple):
    """One emulated edge, and the wearable that it hears."""

    edge: str
    wearable: str
    binding: str


class Ward:
    """A site on this machine, with an edge and a wearable for each processor."""

    def __init__(self, journey: Journey, folder: Path) -> None:
        self.journey, self.folder = journey, folder
        self.beds: dict[str, Bed] = {}
        self._has_data_centre = False

    def begin(self) -> None:
        self._do(
            f"vitalloom pki init --host 127.0.0.1 --registry-port {free_port()} --broker-port {free_port()}\n"
            "vitalloom broker write --listen 127.0.0.1"
        )
        for service in ("mosquitto -c site/broker/mosquitto.conf", "vitalloom registry serve --host 127.0.0.1"):
            self.journey.take(Block(service, is_service=True))
        self.journey.until(lambda: "registry is listening" in self.journey.said("vitalloom registry"), "the registry")
        self._do(
            "\n".join(
                f"vitalloom registry add edge --label pi-{n} --quiet > pi-{n}.txt\n"
                f"vitalloom registry add wearable --label w-{n} --quiet > w-{n}.txt\n"
                f"vitalloom enrol --dir w-{n} w-{n}.txt\n"
                f"vitalloom registry bind --wearable w-{n} --edge pi-{n} --patient P000{n} --bed {n} "
                "--age 71 --sex male --chest-pain 2"
                for n in range(1, len(CPUS) + 1)
            )
        )
        bound = json.loads(self._do("vitalloom registry bindings --json"))
        by_bed = {one["bed"]: one["binding_id"] for one in bound}
        for n, cpu in enumerate(CPUS, start=1):
            self.beds[cpu] = Bed(f"pi-{n}", f"w-{n}", by_bed[str(n)])
            self._write_config(self.beds[cpu])

    def begin_data_centre(self) -> None:
        """It opens, judges, stores and signs from now on, until the ward is closed."""
        if not self._has_data_centre:
            self._has_data_centre = True
            self.journey.take(Block("vitalloom stream", is_service=True))

    def _do(self, text: str) -> str:
        return self.journey.take(Block(text, is_service=False))

    def _write_config(self, bed: Bed) -> None:
        (self.folder / f"{bed.edge}.toml").write_text(
            f'identity = "{bed.edge}"\ndata_dir = "{bed.edge}-data"\nstatus_file = "{bed.edge}.status"\n'
            f'state_key = "{bed.edge}.key"\n[outbox]\ncommit_ms = 200\n',
            encoding="utf-8",
        )

    def status(self, bed: Bed) -> Status | None:
        return read_status(self.folder / f"{bed.edge}.status")

    def stored(self, bed: Bed) -> list[dict[str, Any]]:
        """Readings in the data centre, in the order in which they were applied."""
        return self._ask("SELECT * FROM reading WHERE binding_id = ? ORDER BY seq", bed)

    def scores(self, bed: Bed) -> list[dict[str, Any]]:
        return self._ask("SELECT * FROM model_score WHERE binding_id = ? ORDER BY at_ms, model", bed)

    def _ask(self, query: str, bed: Bed) -> list[dict[str, Any]]:
        file = self.folder / "data" / "store.sqlite"
        if not file.exists():
            return []
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        store.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in store.execute(query, (bed.binding,)).fetchall()]
        except sqlite3.OperationalError:  # it is being made
            return []
        finally:
            store.close()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    mosquitto_binary()
    EmulatedPi("cortex-a53")  # made, or the tests are skipped, before anything starts
    folder = tmp_path_factory.mktemp("pi")
    with Journey(folder, {}) as journey:
        found = Ward(journey, folder)
        found.begin()
        yield found


def enrol(pi: EmulatedPi, ward: Ward, bed: Bed) -> None:
    done = pi.run("-m", "vitalloom", "enrol", "--dir", bed.edge, f"{bed.edge}.txt", cwd=ward.folder)
    assert done.returncode == 0, done.stderr
    assert f"is enrolled in {bed.edge}" in done.stdout


@contextmanager
def agent(pi: EmulatedPi, ward: Ward, bed: Bed) -> Iterator["subprocess.Popen[bytes]"]:
    """The agent on that processor; it is gone after the block, however the block ends."""
    log = ward.folder / f"{bed.edge}.log"
    process = pi.start("-m", "vitalloom", "edge", "--config", f"{bed.edge}.toml", cwd=ward.folder, log=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def put_on(ward: Ward, bed: Bed) -> None:
    """The wearable begins to measure, and goes on until the ward is closed."""
    command = f"vitalloom wearable --identity {bed.wearable} --cadence 0.5s"
    ward.journey.take(Block(command, is_service=True))


def until(
    condition: Callable[[], bool], what: str, process: "subprocess.Popen[bytes]", log: Path, journey: Journey
) -> None:
    deadline = time.monotonic() + BEGIN_WITHIN_S
    while not condition():
        said = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
        assert process.poll() is None, f"the agent ended: {said}"
        assert not (gone := journey.ended()), [journey.said(name)[-1_000:] for name in gone]
        assert time.monotonic() < deadline, f"{what}: not within {BEGIN_WITHIN_S} s: {said}"
        time.sleep(0.05)


def as_computed_here(readings: list[dict[str, Any]]) -> dict[str, float | None]:
    """What this machine's own processor says of the reading that models were asked at first."""
    first = readings[0]
    signs = (
        "heart_rate",
        "respiratory_rate",
        "spo2",
        "oxygen_flow",
        "systolic_bp",
        "diastolic_bp",
        "temperature",
    )
    reading = Reading(
        stay_id=first["binding_id"],
        reading_id=first["reading_id"],
        session_id=first["session_id"],
        counter=first["counter"],
        at_ms=first["at_ms"],
        received_ms=first["received_ms"],
        unusable=first["unusable"],
        **{name: first[name] for name in signs if name in first},
    )
    scoring = Scoring(load_all(RELEASED), lambda _: ABOUT)
    return {score.model: score.score for score in scoring.score(reading)}


@pytest.mark.parametrize("cpu", CPUS)
def test_released_models_say_the_same_on(cpu: str, tmp_path: Path) -> None:
    pi = EmulatedPi(cpu)
    done = pi.run("-c", SCORES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    there, ours = json.loads(done.stdout), json.loads(here("-c", SCORES, cwd=tmp_path))

    assert there["machine"] == "aarch64"
    assert there["refused"] == ours["refused"] == []
    assert set(there["said"]) == {"heart", "heart-home", "rhythm", "sepsis"}
    for name, values in there["said"].items():
        assert values == pytest.approx(ours["said"][name], abs=TOLERANCE), name


def test_on_a_cortex_a53_the_agent_enrols_scores_keeps_forwards_and_survives_kill_9(ward: Ward) -> None:
    #   data centre      . . . . . . . . . . . . . . |======================
    #   agent      |=========== kill -9    |==============================
    #   wearable      |====================================================
    cpu = "cortex-a53"
    pi, bed = EmulatedPi(cpu), ward.beds[cpu]
    log = ward.folder / f"{bed.edge}.log"
    enrol(pi, ward, bed)
    put_on(ward, bed)
    with agent(pi, ward, bed) as first:
        until(lambda: _waiting(ward, bed) >= 8, "readings in the outbox", first, log, ward.journey)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(PATIENCE_S)
    kept = _waiting(ward, bed)
    assert not ward.stored(bed)  # there was nobody to forward to

    ward.begin_data_centre()
    with agent(pi, ward, bed) as second:
        until(lambda: len(ward.stored(bed)) >= kept + 8, "readings in the data centre", second, log, ward.journey)
        until(
            lambda: (status := ward.status(bed)) is not None and status.waiting < 4,
            "an empty outbox",
            second,
            log,
            ward.journey,
        )
        status = ward.status(bed)
        os.kill(second.pid, signal.SIGTERM)
        assert second.wait(PATIENCE_S) == 0

    # Everything that was accepted is there, once, and nothing is missing in between.
    stored = ward.stored(bed)
    for session in {one["session_id"] for one in stored}:
        counters = sorted(one["counter"] for one in stored if one["session_id"] == session)
        assert counters == list(range(len(counters)))
    assert len(stored) >= kept + 8
    # It has judged with its models, and says what this machine would have said.
    ours, theirs = as_computed_here(stored), {one["model"]: one["score"] for one in ward.scores(bed)[:2]}
    assert set(theirs) == {"sepsis", "heart"}
    for name, value in theirs.items():
        assert value == pytest.approx(ours[name], abs=TOLERANCE), name
    # And it tells the person in front of it.
    assert status is not None
    assert status.models.startswith("rules + sepsis")
    assert "heart-home" in status.models
    assert status.refused_models == ()
    assert [one.bed for one in status.beds] == [bed.edge.removeprefix("pi-")]
    assert all(status.lanes.values())
    said = log.read_text(encoding="utf-8")
    assert "agent stopped" in said
    assert "could not be judged" not in said


@pytest.mark.parametrize("cpu", [one for one in CPUS if one != "cortex-a53"])
def test_the_agent_enrols_scores_and_forwards_on(cpu: str, ward: Ward) -> None:
    pi, bed = EmulatedPi(cpu), ward.beds[cpu]
    log = ward.folder / f"{bed.edge}.log"
    ward.begin_data_centre()
    enrol(pi, ward, bed)
    put_on(ward, bed)
    with agent(pi, ward, bed) as process:
        until(lambda: len(ward.stored(bed)) >= 3, "readings in the data centre", process, log, ward.journey)
        until(lambda: len(ward.scores(bed)) >= 2, "scores in the data centre", process, log, ward.journey)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0

    ours, theirs = as_computed_here(ward.stored(bed)), {one["model"]: one["score"] for one in ward.scores(bed)[:2]}
    assert set(theirs) == {"sepsis", "heart"}
    for name, value in theirs.items():
        assert value == pytest.approx(ours[name], abs=TOLERANCE), name


def _waiting(ward: Ward, bed: Bed) -> int:
    status = ward.status(bed)
    return 0 if status is None else status.waiting

"""The first hour of a newcomer: both commands of the README on a bare Debian, as far as eight minutes go.

InfluxDB is left out: to build it takes minutes. So the run has to say by name what it did not test.
"""

import json
import re

import pytest

from tests.first_hour.bare_machine import BareMachine

pytestmark = pytest.mark.bare_machine

WARD = "--headless --json --duration 10m --speed 60 --seed 3"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> BareMachine:
    return BareMachine(tmp_path_factory.mktemp("bare"))


def test_a_user_without_root_is_told_which_packages_to_install(machine: BareMachine) -> None:
    done = machine.run(
        "./deploy/native/install.sh venv kafka", user="65534", VITALLOOM_CACHE="/tmp/other-user", HOME="/tmp"
    )

    assert done.returncode == 1
    assert "sudo apt-get install python3-venv" in done.stdout
    assert "sudo apt-get install openjdk-17-jre-headless" in done.stdout


def test_the_ward_raises_alarms_and_stores_every_reading(machine: BareMachine) -> None:
    done = machine.run(f'make ward WARD_ARGS="{WARD}"')

    assert done.returncode == 0, done.stdout
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["alarms"] > 0
    assert summary["sent"] == summary["stored"] > 0


ANSWERING = r"""
make ward WARD_ARGS="--headless --duration 30m --seed 1" > /tmp/ward.log 2>&1 &
wait_for() {
  for _ in $(seq 300); do grep -qE "$1" /tmp/ward.log && return 0; sleep 1; done
  cat /tmp/ward.log; exit 1
}
wait_for "^phones"
began=$SECONDS
wait_for "alarm [0-9a-f]{8}: called anna"
alarm="$(grep -oE "alarm [0-9a-f]{8}: called anna" /tmp/ward.log | tail -1 | cut -c7-14)"
login="$(grep -oE "[^ ]*/anna[.]login" /tmp/ward.log | head -1)"
.venv/bin/vitalloom alarms --login-file "$login" ack "$alarm" --yes
wait_for "alarm $alarm: answered by anna, calling stopped"
echo "answered after $((SECONDS - began)) s"
wait_for "called ben"
wait
tail -30 /tmp/ward.log
"""


def test_a_person_is_called_and_answers_and_without_an_answer_the_next_one_is_called(machine: BareMachine) -> None:
    done = machine.run(ANSWERING)

    assert done.returncode == 0, done.stdout
    assert "calling has stopped" in done.stdout
    assert re.search(r"^answered after \d+ s$", done.stdout, re.MULTILINE)
    assert "every reading is accounted for" in done.stdout


def test_the_tests_pass_and_say_what_they_skipped(machine: BareMachine) -> None:
    done = machine.run('make test ONLY=essential SERVERS="mosquitto kafka"')

    assert done.returncode == 0, done.stdout
    unit, services = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert int(unit) > 100
    assert int(services) >= 3  # on the embedded broker, on Mosquitto, on Kafka
    skipped = re.findall(r"^skipped because (.*) is missing: .*\n *would have tested: (.*)", done.stdout, re.MULTILINE)
    would_test = dict(skipped)  # each run of pytest says what it skipped
    assert set(would_test) == {"influxdb", "training"}
    assert would_test["influxdb"].startswith("the store's writes")

"""Generates docs/first-site.md from a real run: `python -m tests.deploy.first_site_document`.

It takes three minutes and needs the default ports to be free.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.text import Text

from simulators.ward.screen import as_svg
from tests.deploy.first_site import ROOT, USER, CommandOutput, FirstSite

IMAGES: Final = ROOT / "docs" / "images"
COLOURS: Final = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
DOCUMENT: Final = ROOT / "docs" / "first-site.md"
_TEXT: Final = """\
# A first site

From an empty folder to an acknowledged alarm, with the real processes of a site: Mosquitto, Kafka, InfluxDB, the
registry, ingest, a worker, the store writer and the alarm desk. There are six simulated patients, and a simulated
phone that shows notifications. It takes about five minutes, most of them waiting for the patient to deteriorate.

**Decision support and secondary notification. Not a certified medical device.**

The output below is from a real run: `python -m tests.deploy.first_site_document` runs all commands and writes this
page. Passwords are left out; times, ids and ports are those of that run.

## Requirements

Linux, Python 3.11 or newer, `pip install 'vitalloom[site]'`, and the three servers. `vitalloom site tools --install`
installs missing ones: Kafka with Java and Maven (43 MB), InfluxDB with Go and Rust (five minutes); Mosquitto is a
system package (`sudo apt-get install mosquitto`). Containers include all of them: see [below](#in-containers).

@@tools@@

## The folder of a site

One folder holds everything of a site: certificate authority, registry, configuration, secrets and data. There are no
default passwords. Running `vitalloom site init` again creates missing files and keeps existing ones.

@@init@@

| in the folder | contents |
|---|---|
| `site.toml` | settings of the site: ports, number of workers, webhook for alerts of Grafana |
| `config/` | one file for each process; may be edited. `config/grafana/` has dashboards and alert rules |
| `people/addresses.toml` | addresses of people for notifications; secret |
| `secrets/` | random passwords and tokens, mode 600 |
| `ca/`, `control/`, `registry.sqlite`, `ingest/`, `broker/` | certificates and devices: [security.md](security.md) |
| `data/`, `logs/` | data and logs of the processes |
| `.env` | variables for `docker compose`; no secrets |

## Start it

Processes start in order of their dependencies, and are restarted when they die. A terminal shows this screen:

![The terminal screen of a site](images/site.svg)

If the output is not a terminal, there is one line for each change of state. This is the whole run, ended by Ctrl-C:

@@run@@

## An edge

In another terminal. On a Raspberry Pi the invitation is scanned from a QR code: [edge-install.md](edge-install.md).

@@enrol@@

## Readings

With the read token, which Grafana uses as well. The query counts the heart rates of each patient:

@@readings@@

## An alarm

The patient in bed 3 deteriorates from the start. The phone showed this @@phone_s@@ s after the start of the site;
notifications have no name and no value unless the site enables it:

@@phone@@

A nurse acknowledges the alarm. The desk stops notifying; the alarm stays on the list until its condition ends:

@@answer@@

![List of alarms](images/alarms.svg)

## Health check

@@doctor@@

After the site has been stopped, the doctor lists each problem with its fix:

![Output of the doctor for a site that is not running](images/doctor.svg)

## For patients

A demo becomes a site for a ward in these steps:

1. Run `vitalloom site init site --host ward.example --time-zone Europe/London` as a dedicated user, on a machine that
   devices reach by that name. Without `--time-zone` times are shown in the zone of the machine. Move `ca/root.key` to a
   safe place.
2. Enter the addresses of people in `people/addresses.toml` and their roles in `config/desk.toml`, and create a user
   for each (`vitalloom desk --config site/config/desk.toml user add NAME`). `vitalloom desk --config
   site/config/desk.toml try` sends a test message to all. [notifications.md](notifications.md)
3. Set `backstop_webhook` in `site.toml`, which Grafana calls when the alarms of the site fail. It should not be the
   desk.
4. Put a TLS proxy in front of Grafana and the desk, which speak plain HTTP on this machine only. Set its address as
   `root_url` in `config/grafana.ini` and as `where` in `config/desk.toml`: links in messages go there.
5. Run `vitalloom site run site` as a systemd service, or `make up`. Then add edges, wearables and beds:
   [security.md](security.md#from-an-empty-folder).
6. Back up the folder without `data/`, and of `data/` what the rules of the hospital require.

## Patients, devices and beds

A **stay** is one patient under monitoring, with any number of devices. `bind` of a first device begins one, further
devices join it, and all are judged together. Patients are pseudonyms.

```
vitalloom registry admit P0001 --bed North/7 --age 67 --sex male    # no device yet: an alarm after some minutes
vitalloom registry bind --patient P0001 --wearable patch-3 --edge bay-1    # without `admit` also --bed, --age
vitalloom registry exchange patch-3 --wearable patch-4     # an empty battery; --edge if another edge hears it
vitalloom registry unbind patch-4                          # the last device ends the stay, unless --stay-open
vitalloom registry move P0001 --bed North/9
vitalloom registry facts P0001 --age 76                    # correct age, sex, pregnancy or SpO2 scale
vitalloom registry discharge P0001
vitalloom registry stays                                   # who is monitored, with which devices, since when
```

A thermometer that is used for three patients is bound and unbound three times. `stays` and `vitalloom doctor` mark a
patient with two open stays, which a registry of an earlier version or a restored one may have: nothing is guessed, a
person discharges the one that is not true, and binds its devices again.

## In containers

`docker-compose.yml` is generated from the description (`deploy/description.py`) that `vitalloom site run` uses: the
same processes, arguments and configuration files. Only addresses differ, and these are environment variables.

```
vitalloom site init site --host ward.example      # as a non-root user: containers run as that user
make up SITE=site                                 # or: docker compose --env-file site/.env up -d --wait
docker compose --env-file site/.env up -d --scale worker=3
docker compose --env-file site/.env --profile demo up -d
make down SITE=site
```

Each container mounts the parts of the folder that it needs, at their paths on the host; ingest, for instance, has no
access to signing keys and secrets. All run as the owner of the folder, without capabilities, on a read-only file
system. The broker and the registry are open to devices; Grafana and the desk are open to this machine only.

Ingest renews its certificate at the registry by the host name that devices use. In containers this must not be the
default 127.0.0.1: ingest would look for the registry in its own container, and its certificate would expire after 30
days.

## What was not tested

There was no container engine and no Grafana for these tests. So:

- `docker-compose.yml` was parsed by the client (`docker compose config`, 2.40.3), and tests compare it with the
  schema of compose, the description, the folder of a site and the command line. No container was started, and the
  image was not built; its wheel was, and the package index has wheels of all 76 packages in it for its Python on
  x86-64.
- That the four third-party images run as another user on a read-only file system is documented by them, but was not
  tested; nor was the existence of their tags.
- Grafana's dashboards and rules were checked by schema, and each of their queries by the real InfluxDB."""


def document(first: FirstSite) -> str:
    """The page."""
    tools, init = first.outputs["begin"]
    blocks = {
        "tools": [tools],
        "init": [init],
        "run": first.outputs["run"],
        "enrol": first.outputs["enrol"],
        "readings": first.outputs["readings"],
        "phone": first.outputs["phone"],
        "answer": first.outputs["answer"],
        "doctor": first.outputs["doctor"],
    }
    text = _TEXT.replace("@@phone_s@@", f"{first.marks['phone']:.0f}")
    for name, said in blocks.items():
        text = text.replace(f"@@{name}@@", _shell(first, said))
    return text


def _shell(first: FirstSite, said: list[CommandOutput]) -> str:
    parts = [f"$ {one.command}\n{one.text.rstrip()}".rstrip() for one in said]
    return f"```text\n{_clean(first, chr(10).join(parts))}\n```"


def _clean(first: FirstSite, text: str) -> str:
    """Remove paths of this machine and secrets."""
    for word, other in ((first.password, "..."), (str(first.folder), "."), (f"{Path.home()}/", "~/")):
        text = text.replace(word, other)
    text = re.sub(r"(cache/vitalloom/services/\w+)-[0-9a-f]{16}", r"\1", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _picture(first: FirstSite, command: str, name: str) -> None:
    """The output of a command as a picture of a terminal."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=first.folder,
        env=first.environment | COLOURS,
        capture_output=True,
        text=True,
        check=False,
    )
    # A path of the same length, so that tables keep their layout.
    elsewhere = "/home/anna/wards/north/of/the/river"[: len(str(first.folder))]
    screen = Text.from_ansi(_clean(first, done.stdout.replace(str(first.folder), elsewhere)))
    (IMAGES / f"{name}.svg").write_text(as_svg(screen, title=command, width=118), encoding="utf-8")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, FirstSite(Path(folder), default_ports=True) as first:
        first.create_site()
        first.start()
        first.enrol()
        first.wait_for_notification()
        first.readings()
        first.answer()
        first.examine()
        first.end()
        assert not first.leftover_processes()
        (IMAGES / "site.svg").write_bytes((first.folder / ".board.svg").read_bytes())
        _picture(first, "vitalloom doctor site --pause 0.5", "doctor")
        text = document(first)
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write(f"written: docs/{DOCUMENT.name}, answered by {USER}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""docs/first-site.md with what a first site really said: `python -m tests.deploy.first_site_document`.

It takes the usual ports, three minutes, and nothing that runs already.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.text import Text

from simulators.ward.screen import as_svg
from tests.deploy.first_site import ROOT, USER, FirstSite, Said

IMAGES: Final = ROOT / "docs" / "images"
COLOURS: Final = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
DOCUMENT: Final = ROOT / "docs" / "first-site.md"
_TEXT: Final = """\
# A first site

From an empty folder to an alarm that somebody answers, with a site's real processes: Mosquitto, Kafka, InfluxDB, the
registry, ingest, a worker, the store writer, the alarm desk. Six simulated patients stand before it, and a phone that
does not exist shows what a phone would show. It takes about five minutes, most of them waiting for the patient.

**Decision support and secondary notification. Not a certified medical device.**

What the commands say below they did say: `python -m tests.deploy.first_site_document` does all of this and writes this
page. Passwords are left out; times, ids and ports are of that run.

## What is needed

Linux, Python 3.11 or newer, `pip install 'vitalloom[site]'`, and the three servers. `vitalloom site tools --install`
makes what is missing, once: Kafka with Java and Maven (43 MB), InfluxDB with Go and Rust (five minutes); Mosquitto is a
package (`sudo apt-get install mosquitto`). In containers none of them is needed: see [below](#in-containers).

@@tools@@

## Its folder

One folder holds all of a site: its authority, its registry, configuration, secrets and data. Nothing in it is a default
that others know, and a second `vitalloom site init` completes what is missing and replaces nothing.

@@init@@

| in the folder | what |
|---|---|
| `site.toml` | how it is run: ports, workers, whom Grafana tells |
| `config/` | one file for each process; may be edited. `config/grafana/` is what Grafana shows |
| `people/addresses.toml` | whom the desk can call, and how; secret |
| `secrets/` | passwords and tokens, drawn at random, mode 600 |
| `ca/`, `control/`, `registry.sqlite`, `ingest/`, `broker/` | who belongs: see [security.md](security.md) |
| `data/`, `logs/` | what the processes keep, and what they say |
| `.env` | the same for `docker compose`; no secrets |

## Start it

Everything in order, each when what it needs is there; what dies is started again. On a terminal this is a board:

![The board of a site](images/site.svg)

Into a file it is one line for each change. This is the whole run, its end by Ctrl-C included:

@@run@@

## An edge

In another terminal. On a Raspberry Pi the line is scanned from a QR code: [edge-install.md](edge-install.md).

@@enrol@@

## Readings

With the token that may only read, which is also Grafana's. The number is that of heart rates for each patient:

@@readings@@

## An alarm

The patient in bed 3 gets worse from the start. This is what the phone showed @@phone_s@@ s after the start of the site;
no name and no value leaves the ward unless the site says so:

@@phone@@

Somebody looks, and answers. The desk stops calling for that alarm; it stays on the list until it is over:

@@answer@@

![What stands](images/alarms.svg)

## Is it well?

@@doctor@@

When the site has ended, the doctor says so, and what to do about each of it:

![What the doctor says of a site that does not run](images/doctor.svg)

## For patients

A demo becomes a site for a ward in these steps:

1. `vitalloom site init site --host ward.example`, as a user of its own, on a machine that devices reach by that name.
   `ca/root.key` goes into a safe.
2. People: their addresses into `people/addresses.toml`, who has which role into `config/desk.toml`, one login each
   (`vitalloom desk --config site/config/desk.toml user add NAME`). `vitalloom desk --config site/config/desk.toml try`
   sends everybody a test. [notifications.md](notifications.md)
3. `backstop_webhook` in `site.toml`: whom Grafana tells when the site's own alarms fail. It should not be the desk.
4. A proxy with TLS before Grafana and the desk, which speak plain HTTP on this machine only.
5. `vitalloom site run site`, by a unit of systemd, or `make up`. Then edges, wearables and beds:
   [security.md](security.md#from-an-empty-folder).
6. A backup of the folder without `data/`; of `data/` what the hospital's rules ask for.

## In containers

`docker-compose.yml` is made of the same description (`deploy/description.py`) as `vitalloom site run`: the same
processes, arguments and configuration files. What differs are addresses, and they come by the environment.

```
vitalloom site init site --host ward.example      # as a user that is not root: containers run as that user
make up SITE=site                                 # or: docker compose --env-file site/.env up -d --wait
docker compose --env-file site/.env up -d --scale worker=3
docker compose --env-file site/.env --profile demo up -d
make down SITE=site
```

Each container sees the parts of the folder that it needs, at the same paths as on the machine; ingest, for one, sees no
signing key and no secret. All run as the folder's owner, without capabilities, on a file system that cannot be written.
Only the broker and the registry are open to devices; Grafana and the desk are open to this machine.

The ingest renews its certificate at the registry by the name that devices use. In containers that has to be a name:
with the default host, 127.0.0.1, it would look for the registry in its own container, and its certificate ends after
30 days.

## What was not run

There was no container engine and no Grafana where this was built. So:

- `docker-compose.yml` was read by the client (`docker compose config`, 2.40.3), held against the schema of compose, and
  against the description, the folder of a site and the command line by tests. No container was started, and the image
  was not built; its wheel was, and the package index has wheels of all 76 packages in it for its Python on x86-64.
- That the four foreign images behave on a read-only file system as another user is what their documents say; their tags
  were asked of no registry.
- Grafana's dashboards and rules were checked by schema, and each of their queries by the real InfluxDB.
"""


def document(first: FirstSite) -> str:
    """The page."""
    tools, init = first.said["begin"]
    blocks = {
        "tools": [tools], "init": [init], "run": first.said["run"], "enrol": first.said["enrol"],
        "readings": first.said["readings"], "phone": first.said["phone"], "answer": first.said["answer"],
        "doctor": first.said["doctor"],
    }  # fmt: skip
    text = _TEXT.replace("@@phone_s@@", f"{first.marks['phone']:.0f}")
    for name, said in blocks.items():
        text = text.replace(f"@@{name}@@", _shell(first, said))
    return text


def _shell(first: FirstSite, said: list[Said]) -> str:
    parts = [f"$ {one.command}\n{one.text.rstrip()}".rstrip() for one in said]
    return f"```text\n{_clean(first, chr(10).join(parts))}\n```"


def _clean(first: FirstSite, text: str) -> str:
    """Without what is of one machine, and without what is secret."""
    for word, other in ((first.password, "..."), (str(first.folder), "."), (f"{Path.home()}/", "~/")):
        text = text.replace(word, other)
    text = re.sub(r"(cache/vitalloom/services/\w+)-[0-9a-f]{16}", r"\1", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _picture(first: FirstSite, command: str, name: str) -> None:
    """What a terminal would show."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=first.folder, env=first.environment | COLOURS, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    # As long as it was, or the lines of a table part.
    elsewhere = "/home/anna/wards/north/of/the/river"[: len(str(first.folder))]
    screen = Text.from_ansi(_clean(first, done.stdout.replace(str(first.folder), elsewhere)))
    (IMAGES / f"{name}.svg").write_text(as_svg(screen, title=command, width=118), encoding="utf-8")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, FirstSite(Path(folder), usual_ports=True) as first:
        first.begin()
        first.start()
        first.enrol()
        first.wait_for_the_phone()
        first.readings()
        first.answer()
        first.examine()
        first.end()
        assert not first.left_over()
        (IMAGES / "site.svg").write_bytes((first.folder / ".board.svg").read_bytes())
        _picture(first, "vitalloom doctor site --pause 0.5", "doctor")
        text = document(first)
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write(f"written: docs/{DOCUMENT.name}, answered by {USER}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Dashboards into a Grafana that runs, by its HTTP API: what is missing is made, what differs is replaced."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlparse

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, TokenAuth
from niquests.exceptions import RequestException

from dashboards.build import DASHBOARDS, dashboard_json
from dashboards.errors import DashboardsError, GrafanaRefused
from dashboards.panels import SOURCE
from dashboards.provisioning import FOLDER

_TIMEOUT_S: Final = 10.0
_NOT_FOUND: Final = 404
_CURES: Final = {
    401: "it does not know this token; make one in Grafana: Administration, Service accounts, role Editor",
    403: "this token may not do that; its service account needs the role Editor in the folder",
    412: "somebody else has changed it at this moment; run it again",
}
# What Grafana adds by itself.
_ITS_OWN: Final = ("id", "version")


class PublishResult(NamedTuple):
    """What was done, each as a line for people."""

    done: list[str]
    unchanged: list[str]


def publish(url: str, token_file: Path) -> PublishResult:
    """Folder and dashboards as the code makes them. Running it again changes nothing.

    Raises:
        GrafanaRefused: what was asked, why it was not done, and the cure.
    """
    done, same = [], []
    with _grafana(url, token_file) as grafana:
        with _asking(url, "looking for the data source"):
            grafana.datasource.get_datasource_by_uid(SOURCE.uid)
        with _asking(url, f"folder {FOLDER}"):
            if _or_none(grafana.folder.get_folder, FOLDER) is None:
                grafana.folder.create_folder(FOLDER, uid=FOLDER)
                done.append(f"made folder {FOLDER}")
        for name in DASHBOARDS:
            wanted = dashboard_json(name)
            with _asking(url, f"dashboard {wanted['uid']}"):
                there = _or_none(grafana.dashboard.get_dashboard, wanted["uid"])
                if there is not None and there["meta"].get("folderUid") == FOLDER and _same(there["dashboard"], wanted):
                    same.append(wanted["uid"])
                    continue
                if there is not None and there["meta"].get("provisioned"):
                    raise GrafanaRefused(
                        url, f"dashboard {wanted['uid']}", "it comes from files there; change those instead"
                    )
                grafana.dashboard.update_dashboard(
                    {"dashboard": wanted, "folderUid": FOLDER, "overwrite": True, "message": "vitalloom publish"}
                )
                done.append(f"{'made' if there is None else 'replaced'} {wanted['uid']}")
    return PublishResult(done, same)


def differences(url: str, token_file: Path) -> list[str]:
    """Dashboards that are missing in Grafana or are not what the code makes."""
    found = []
    with _grafana(url, token_file) as grafana:
        for name in DASHBOARDS:
            wanted = dashboard_json(name)
            with _asking(url, f"dashboard {wanted['uid']}"):
                there = _or_none(grafana.dashboard.get_dashboard, wanted["uid"])
            if there is None or not _same(there["dashboard"], wanted):
                found.append(f"{wanted['uid']} is {'missing' if there is None else 'different'}")
    return found


@contextlib.contextmanager
def _grafana(url: str, token_file: Path) -> Iterator[GrafanaApi]:
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DashboardsError(f"{url} is no address of a Grafana; say for instance https://grafana.example:3000")
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DashboardsError(f"the token of Grafana cannot be read: {token_file} ({error.strerror})") from error
    # It logs whole answers at ERROR; what went wrong is said by us, once.
    logging.getLogger("grafana_client").setLevel(logging.CRITICAL)
    grafana = GrafanaApi(
        auth=TokenAuth(token), host=parts.hostname, port=parts.port, protocol=parts.scheme,
        url_path_prefix=f"{parts.path.strip('/')}/" if parts.path.strip("/") else "", timeout=_TIMEOUT_S,
    )  # fmt: skip
    try:
        yield grafana
    finally:
        grafana.client.s.close()


@contextlib.contextmanager
def _asking(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except GrafanaException as error:
        if error.status_code == _NOT_FOUND and "data source" in what:
            why = f"there is none with the uid {SOURCE.uid}; provision it (dashboards/provisioning/datasources)"
        else:
            why = _CURES.get(error.status_code, f"it answers {error.status_code}: {_said(error)}")
        raise GrafanaRefused(url, what, why) from error
    except (RequestException, OSError) as error:
        raise GrafanaRefused(url, what, f"it does not answer ({type(error).__name__}); is it up?") from error


def _or_none(ask: Any, uid: str) -> Any:
    try:
        return ask(uid)
    except GrafanaClientError as error:
        if error.status_code == _NOT_FOUND:
            return None
        raise


def _same(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return _bare(there) == _bare(wanted)


def _bare(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _ITS_OWN}


def _said(error: GrafanaException) -> str:
    response = error.response
    return str(response.get("message", "")) if isinstance(response, dict) else str(response)[:200]

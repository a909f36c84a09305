"""Publishes the dashboards to a running Grafana over its HTTP API: creates missing ones, updates outdated ones."""

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
# A folder of that title or uid exists. Which of them Grafana answers depends on its version.
_FOLDER_EXISTS: Final = frozenset({400, 409, 412})
_FIXES: Final = {
    401: "the token is not valid; create one in Grafana: Administration, Service accounts, role Editor",
    403: "the token has no permission; its service account needs the role Editor in the folder",
    412: "it was changed at the same time; run the command again",
}
_NAME_EXISTS: Final = "name-exists"
# Keys that Grafana adds.
_GRAFANA_KEYS: Final = ("id", "version")


class PublishResult(NamedTuple):
    """Lines that describe the changes, and the uids of unchanged dashboards."""

    changes: list[str]
    unchanged: list[str]


def publish(url: str, token_file: Path) -> PublishResult:
    """Create or update the folder and the dashboards.

    Raises:
        GrafanaRefused: the message names the request, the problem and the fix.
    """
    changes: list[str] = []
    unchanged: list[str] = []
    with _grafana(url, token_file) as grafana:
        with _request(url, "data source"):
            grafana.datasource.get_datasource_by_uid(SOURCE.uid)
        with _request(url, f"folder {FOLDER}"):
            folder_uid = _folder_uid(grafana)
            if folder_uid is None:
                folder_uid = _create_folder(url, grafana)
                changes.append(f"created folder {FOLDER}")
        for name in DASHBOARDS:
            change = _publish_dashboard(url, grafana, dashboard_json(name), folder_uid)
            if change is None:
                unchanged.append(dashboard_json(name)["uid"])
            else:
                changes.append(change)
    return PublishResult(changes, unchanged)


def differences(url: str, token_file: Path) -> list[str]:
    """Dashboards that are missing or outdated in Grafana."""
    found = []
    with _grafana(url, token_file) as grafana:
        for name in DASHBOARDS:
            wanted = dashboard_json(name)
            with _request(url, f"dashboard {wanted['uid']}"):
                current = _or_none(grafana.dashboard.get_dashboard, wanted["uid"])
            if current is None or not _same(current["dashboard"], wanted):
                found.append(f"{wanted['uid']} is {'missing' if current is None else 'outdated'}")
    return found


def _folder_uid(grafana: GrafanaApi) -> str | None:
    """The uid of the folder: ours, or that of a folder of the same title.

    Alerting makes a folder of that title under a uid of its own when rules are provisioned from files. The list is
    asked because Grafana answers 403, not 404, when an Editor asks for a uid that does not exist.
    """
    folders = grafana.folder.get_all_folders()  # the first thousand
    uids = [one["uid"] for one in folders if one["title"] == FOLDER]
    if any(one["uid"] == FOLDER for one in folders):
        return FOLDER
    return uids[0] if uids else None


def _create_folder(url: str, grafana: GrafanaApi) -> str:
    try:
        return str(grafana.folder.create_folder(FOLDER, uid=FOLDER)["uid"])
    except GrafanaClientError as error:
        if error.status_code not in _FOLDER_EXISTS:
            raise
        # Made since the list was read, or not visible to this token.
        found = _folder_uid(grafana)
        if found is None:
            raise GrafanaRefused(
                url,
                f"folder {FOLDER}",
                "it exists, but the token cannot see it; in Grafana give its service account the permission Edit "
                "on that folder",
            ) from error
        return found


def _publish_dashboard(url: str, grafana: GrafanaApi, wanted: dict[str, Any], folder_uid: str) -> str | None:
    """Create or update one dashboard; None: it is up to date."""
    uid = wanted["uid"]
    with _request(url, f"dashboard {uid}"):
        current = _or_none(grafana.dashboard.get_dashboard, uid)
        if current is None:
            version = {}
        elif current["meta"].get("folderUid") == folder_uid and _same(current["dashboard"], wanted):
            return None
        elif current["meta"].get("provisioned"):
            raise GrafanaRefused(
                url, f"dashboard {uid}", "it is provisioned from files on the Grafana host; change those instead"
            )
        else:
            version = {"version": current["dashboard"]["version"]}
        # Without `overwrite`: it would replace a dashboard of the same title, and changes made since it was read.
        grafana.dashboard.update_dashboard(
            {
                "dashboard": {**wanted, **version},
                "folderUid": folder_uid,
                "overwrite": False,
                "message": "vitalloom publish",
            }
        )
    return f"{'created' if current is None else 'updated'} {uid}"


@contextlib.contextmanager
def _grafana(url: str, token_file: Path) -> Iterator[GrafanaApi]:
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DashboardsError(f"{url} is not a URL of Grafana; use for instance https://grafana.example:3000")
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DashboardsError(f"cannot read the token file {token_file} ({error.strerror})") from error
    # The client logs whole responses at ERROR; the error is reported by this module.
    logging.getLogger("grafana_client").setLevel(logging.CRITICAL)
    grafana = GrafanaApi(
        auth=TokenAuth(token),
        host=parts.hostname,
        port=parts.port,
        protocol=parts.scheme,
        url_path_prefix=f"{parts.path.strip('/')}/" if parts.path.strip("/") else "",
        timeout=_TIMEOUT_S,
    )
    try:
        yield grafana
    finally:
        grafana.client.s.close()


@contextlib.contextmanager
def _request(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except GrafanaException as error:
        if error.status_code == _NOT_FOUND and "data source" in what:
            why = f"there is none with the uid {SOURCE.uid}; provision it (dashboards/provisioning/datasources)"
        elif _status(error) == _NAME_EXISTS:
            why = "another dashboard of that title is in the folder; rename or delete that one in Grafana"
        else:
            why = _FIXES.get(error.status_code, f"status {error.status_code}: {_message(error)}")
        raise GrafanaRefused(url, what, why) from error
    except (RequestException, OSError) as error:
        raise GrafanaRefused(
            url, what, f"no response ({type(error).__name__}); check that Grafana is running and that --url is right"
        ) from error


def _or_none(ask: Any, uid: str) -> Any:
    try:
        return ask(uid)
    except GrafanaClientError as error:
        if error.status_code == _NOT_FOUND:
            return None
        raise


def _same(current: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return _without_grafana_keys(current) == _without_grafana_keys(wanted)


def _without_grafana_keys(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _GRAFANA_KEYS}


def _message(error: GrafanaException) -> str:
    response = error.response
    return str(response.get("message", "")) if isinstance(response, dict) else str(response)[:200]


def _status(error: GrafanaException) -> str:
    response = error.response
    return str(response.get("status", "")) if isinstance(response, dict) else ""

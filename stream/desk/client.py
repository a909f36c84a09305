"""HTTP client of the alarm desk. Keeps the login token in a private file."""

import http.client
import os
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from runtime.errors import NotPrivate
from runtime.hardening import make_private_dir, read_private, write_private
from stream.errors import DeskCommandFailed, ValueIsExtreme

WITHIN_S: Final = 10.0
MAX_REPLY_BYTES: Final = 16 << 20
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_T = TypeVar("_T")


def token_file() -> Path:
    """Path of the login file."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "vitalloom" / "desk.token"


class Login(msgspec.Struct, frozen=True):
    """A login token and the URL of its desk; the token is sent to no other desk."""

    url: str
    token: str

    @classmethod
    def read(cls, path: Path) -> "Login":
        """Read a login file. Raises DeskCommandFailed: it does not exist, or other users can read it."""
        try:
            return msgspec.json.decode(read_private(path), type=Login)
        except FileNotFoundError:
            raise DeskCommandFailed(f"{path}: no such file; log in: vitalloom alarms login NAME") from None
        except (OSError, msgspec.DecodeError, NotPrivate) as error:
            raise DeskCommandFailed(f"{path}: cannot be used ({error}); log in again") from error

    def write(self, path: Path) -> None:
        """Write a file that only this user can read."""
        make_private_dir(path.parent)
        write_private(path, msgspec.json.encode(self))


class DeskClient:
    """One desk.

    Args:
        url: desk URL; http only on this machine.
        root: root certificate for TLS; None: the system's certificates.
        token: login token; None: that of the login file, if it belongs to this desk.
    """

    def __init__(self, url: str, *, root: Path | None = None, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DeskCommandFailed(f"{url!r} is not a desk URL; example: https://desk.example:8095")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise DeskCommandFailed(f"{url}: http would send the password unencrypted to another machine; use https")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port
        self._context = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=root)
            except OSError as error:
                raise DeskCommandFailed(f"{root}: cannot be used as a root certificate ({error})") from error
        self._token = token

    def log_in(self, user: str, password: str) -> dict[str, Any]:
        """Log in, and keep the token."""
        found: dict[str, Any] = self._ask("POST", "/v1/login", {"user": user, "password": password}, dict[str, Any])
        Login(self.url, found["token"]).write(token_file())
        return found

    def log_out(self) -> None:
        self._ask("POST", "/v1/logout", {}, dict[str, Any], token=self._known_token())
        token_file().unlink(missing_ok=True)

    def alarms(self, kind: type[_T]) -> _T:
        """The list of alarms, decoded as `kind`."""
        return self._ask("GET", "/v1/alarms", None, kind, token=self._known_token())

    def acknowledge(self, alarm_id: str, *, revision: int) -> dict[str, Any]:
        path = f"/v1/alarms/{alarm_id}/acknowledge"
        return self._ask("POST", path, {"revision": revision}, dict[str, Any], token=self._known_token())

    def silence(self, alarm_id: str, *, revision: int, minutes: int) -> dict[str, Any]:
        asked = {"revision": revision, "minutes": minutes}
        path = f"/v1/alarms/{alarm_id}/silence"
        return self._ask("POST", path, asked, dict[str, Any], token=self._known_token())

    def observe(self, stay: str, entered: dict[str, Any]) -> dict[str, Any]:
        """Enter an observation.

        Args:
            stay: id of the stay, patient or bed.
            entered: `stream.desk.observation_api.EnterObservation`.

        Raises:
            ValueIsExtreme: a value is extreme, and `entered` does not say that it is confirmed.
        """
        return self._ask("POST", _observations_of(stay), entered, dict[str, Any], token=self._known_token())

    def observations(self, stay: str, kind: type[_T]) -> _T:
        """The last observations of a stay, decoded as `kind`."""
        return self._ask("GET", _observations_of(stay), None, kind, token=self._known_token())

    def _known_token(self) -> str:
        if self._token:
            return self._token
        path = token_file()
        if not path.exists():
            raise DeskCommandFailed("not logged in; log in: vitalloom alarms login NAME")
        kept = Login.read(path)
        if kept.url != self.url:
            raise DeskCommandFailed(
                f"logged in at {kept.url}, not at {self.url}: vitalloom alarms --url {self.url} login NAME"
            )
        return kept.token

    def _ask(self, method: str, path: str, asked: object, kind: type[_T], *, token: str = "") -> _T:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        body = None if asked is None else msgspec.json.encode(asked)
        made: http.client.HTTPConnection
        if self._context is None:
            made = http.client.HTTPConnection(self._host, self._port, timeout=WITHIN_S)
        else:
            made = http.client.HTTPSConnection(self._host, self._port, timeout=WITHIN_S, context=self._context)
        try:
            made.request(method, path, body, headers)
            answer = made.getresponse()
            content = answer.read(MAX_REPLY_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise DeskCommandFailed(
                f"the desk at {self.url} has a certificate that is not trusted ({error.verify_message}); "
                "give the root certificate of the site: --root FILE"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
            raise DeskCommandFailed(
                f"the desk at {self.url} cannot be reached ({problem}); check that it is running"
            ) from error
        finally:
            made.close()
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise ValueIsExtreme(_problem(answer.status, content))
        if answer.status != 200 or len(content) > MAX_REPLY_BYTES:
            raise DeskCommandFailed(_problem(answer.status, content))
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise DeskCommandFailed(
                f"{self.url} does not reply like an alarm desk of this version ({error})"
            ) from error


def _observations_of(stay: str) -> str:
    return f"/v1/stays/{quote(stay, safe='')}/observations"


def _problem(status: int, content: bytes) -> str:
    try:
        problem = str(msgspec.json.decode(content, type=dict[str, Any]).get("problem", ""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = ""
    return problem or f"the desk answered {status}"

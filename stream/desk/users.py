"""Users of the alarm desk: a private file of names and Argon2id hashes, sessions that expire, and login rate limits.

A session is a random token; the book stores its digest. There are no default passwords.
"""

import asyncio
import hashlib
import os
import secrets
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from runtime import passwords
from runtime.clock import Clock
from runtime.hardening import read_private, write_private
from stream.desk.book import DeskBook
from stream.errors import DeskRequestRefused, DeskUnusable

LEAST_CHARACTERS: Final = 12
MOST_CHARACTERS: Final = 256
MOST_NAME_CHARACTERS: Final = 64

_FAILURES: Final = 5
_WITHIN_MS: Final = 300_000
_FAILURES_OF_ADDRESS: Final = 30
_MOST_REMEMBERED: Final = 10_000
_WAITING_LOGINS: Final = 8


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One user in the file."""

    hash: str
    added_ms: int  # when the password was set
    prescriber: bool = False  # may move the red limits of NEWS2 by orders


class Users:
    """The file of users, read again when it has changed.

    Args:
        path: of the file; if it does not exist there are no users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def all(self) -> dict[str, User]:
        """Users by name.

        Raises:
            DeskUnusable, NotPrivate: the file exists and cannot be used.
        """
        try:
            found = os.stat(self.path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                self._users = msgspec.json.decode(read_private(self.path), type=dict[str, User])
                self._stamp = stamp
        except FileNotFoundError:
            self._users, self._stamp = {}, None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DeskUnusable(
                f"{self.path}: not a valid file of users ({type(error).__name__}); move it away and add the users again"
            ) from error
        return self._users

    def put(self, name: str, password: str, *, now_ms: int, prescriber: bool = False) -> None:
        """Add a user, or change a user's password; who was a prescriber stays one.

        Raises:
            DeskUnusable: the name or password breaks a rule; says which.
        """
        if problem := _problem(name, password):
            raise DeskUnusable(problem)
        before = self.all().get(name)
        is_prescriber = prescriber or (before is not None and before.prescriber)
        self._write(
            self.all() | {name: User(hash=passwords.hash_of(password), added_ms=now_ms, prescriber=is_prescriber)}
        )

    def set_prescriber(self, name: str, *, prescriber: bool) -> None:
        """Whether a user may move the red limits of NEWS2. Raises DeskUnusable: there is no user of that name."""
        user = self.all().get(name)
        if user is None:
            raise DeskUnusable(f"{self.path}: has no user {name}; to list users: vitalloom desk user list")
        self._write(self.all() | {name: msgspec.structs.replace(user, prescriber=prescriber)})

    def put_without_password(self, *names: str, now_ms: int) -> None:
        """Add users without a password: only `Door.admit` logs them in."""
        self._write(self.all() | {name: User(hash=passwords.NOBODY, added_ms=now_ms) for name in names})

    def remove(self, name: str) -> None:
        """Remove a user, which ends the user's sessions. Raises DeskUnusable: there is no user of that name."""
        left = dict(self.all())
        if left.pop(name, None) is None:
            raise DeskUnusable(f"{self.path}: has no user {name}; to list users: vitalloom desk user list")
        self._write(left)

    def is_right(self, name: str, password: str) -> bool:
        """Whether the password is right. Equally slow for unknown names, so that timing does not reveal which exist."""
        user = self.all().get(name)
        return passwords.is_right(password, None if user is None else user.hash)

    def _write(self, users: dict[str, User]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.path, msgspec.json.format(msgspec.json.encode(users), indent=1))


class DeskSession(NamedTuple):
    """One login of a user."""

    user: str
    until_ms: int
    digest: bytes


class Door:
    """Logs users in, checks their tokens and limits the rate of failed logins.

    Args:
        session_ms: lifetime of a token.
        clock: wall for sessions, monotonic for rate limits.
    """

    def __init__(self, users: Users, book: DeskBook, clock: Clock, *, session_ms: int) -> None:
        self._users = users
        self._book = book
        self._clock = clock
        self._session_ms = session_ms
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()
        self._one_by_one = asyncio.Lock()  # 64 MiB and a core each
        self._waiting = 0

    async def log_in(self, name: str, password: str, address: str) -> tuple[str, DeskSession]:
        """A new token.

        Raises:
            DeskRequestRefused: wrong name or password, too many failures, or too many logins at once.
        """
        names = (f"{address}\n{name}", address)
        for key, most in zip(names, (_FAILURES, _FAILURES_OF_ADDRESS), strict=True):
            self._check_rate(key, most)
        if self._waiting >= _WAITING_LOGINS:
            raise DeskRequestRefused(429, "too many logins at once; try again in a few seconds", retry_s=5)
        self._waiting += 1
        try:
            # Counted as a failure before the check, so that parallel attempts cannot pass the limit.
            for key in names:
                self._fail(key)
            async with self._one_by_one:
                right = await asyncio.to_thread(self._users.is_right, name, password)
        finally:
            self._waiting -= 1
        if not right:
            raise DeskRequestRefused(401, "wrong name or password")
        for key in names:
            if failed := self._failures.get(key):
                failed.pop()
        return self.admit(name)

    def admit(self, name: str) -> tuple[str, DeskSession]:
        """A new token for a user, without a password: for the process that runs the desk itself."""
        token = secrets.token_urlsafe(32)
        session = DeskSession(name, self._clock.now_ms() + self._session_ms, _digest(token))
        with self._book.transaction():
            self._book.sessions.put(session.digest, session.user, session.until_ms)
        return token, session

    def session_of(self, token: str) -> DeskSession:
        """The session of a token.

        Raises:
            DeskRequestRefused: the token is unknown or has expired.
        """
        digest = _digest(token)
        found = self._book.sessions.get(digest)
        user = None if found is None else self._users.all().get(found[0])
        # A change of password ends the sessions that began before it.
        began_ms = 0 if found is None else found[1] - self._session_ms
        if found is None or user is None or found[1] <= self._clock.now_ms() or began_ms < user.added_ms:
            raise DeskRequestRefused(
                401, "not logged in, or the login has expired; log in: vitalloom alarms login NAME"
            )
        return DeskSession(*found, digest)

    def log_out(self, session: DeskSession) -> None:
        with self._book.transaction():
            self._book.sessions.end(session.digest)

    def _check_rate(self, key: str, most: int) -> None:
        now_ms, failed = self._clock.mono_ms(), self._failures.get(key, deque())
        while failed and failed[0] <= now_ms - _WITHIN_MS:
            failed.popleft()
        if len(failed) >= most:
            wait_s = max(1, (failed[0] + _WITHIN_MS - now_ms) // 1_000)
            raise DeskRequestRefused(429, f"too many failed logins; try again in {wait_s} s", retry_s=wait_s)

    def _fail(self, key: str) -> None:
        self._failures.setdefault(key, deque()).append(self._clock.mono_ms())
        self._failures.move_to_end(key)
        while len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)


def _problem(name: str, password: str) -> str:
    if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        return f"a name must have 1 to {MOST_NAME_CHARACTERS} printable characters"
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        return f"a password must have {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters"
    if name.casefold() in password.casefold() or len(set(password)) < 5:
        return "a password must not contain the name, and must have at least 5 different characters"
    return ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

"""The people who may enter observations at this edge: a private file of names and hashed PINs, and limits on guessing.

It serves when the data centre is away, so it knows nobody of the data centre. There is no default person and no default
PIN.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edge.errors import BadPerson, EntryRefused
from runtime import passwords
from runtime.errors import NotPrivate
from runtime.hardening import read_private, write_private

PEOPLE_FILE: Final = "people.json"
LEAST_PIN_CHARACTERS: Final = 6
MOST_PIN_CHARACTERS: Final = 64
MOST_NAME_CHARACTERS: Final = 64
LEAST_DIFFERENT: Final = 3

FAILURES: Final = 5
"""Wrong PINs of one name within `WITHIN_MS`: a PIN of six digits falls to a guesser after about a year."""
FAILURES_OF_ALL: Final = 20
WITHIN_MS: Final = 300_000

_RUNS: Final = "01234567890 09876543210"


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One person in the file."""

    hash: str
    added_ms: int


class EdgePeople:
    """The file. If it does not exist there are no people, and nothing can be entered here.

    Args:
        folder: the data folder of the agent.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PEOPLE_FILE

    def all(self) -> dict[str, Person]:
        """People by name. Raises BadPerson: the file exists and cannot be used."""
        try:
            return msgspec.json.decode(read_private(self.path), type=dict[str, Person])
        except FileNotFoundError:
            return {}
        except (OSError, NotPrivate, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadPerson(
                f"{self.path}: not a valid file of people ({error}); move it away and add them again"
            ) from error

    def put(self, name: str, pin: str, *, now_ms: int) -> None:
        """Add a person, or change their PIN. Raises BadPerson: the name or PIN breaks a rule; says which."""
        if problem := _problem(name, pin):
            raise BadPerson(problem)
        self._write(self.all() | {name: Person(hash=passwords.hash_of(pin), added_ms=now_ms)})

    def remove(self, name: str) -> None:
        """Remove a person. Raises BadPerson: there is none of that name."""
        left = self.all()
        if left.pop(name, None) is None:
            raise BadPerson(f"{self.path}: has no person {name[:64]!r}; to list them: vitalloom edge person list")
        self._write(left)

    def is_right(self, name: str, pin: str) -> bool:
        """Whether this is the PIN of this person; as slow for unknown names. Raises BadPerson."""
        person = self.all().get(name)
        return passwords.is_right(pin, None if person is None else person.hash)

    def _write(self, people: dict[str, Person]) -> None:
        try:
            write_private(self.path, msgspec.json.format(msgspec.json.encode(people), indent=1))
            if os.geteuid() == 0:  # the agent is another user, to whom its data folder belongs
                owner = self.path.parent.stat()
                os.chown(self.path, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise BadPerson(f"{self.path}: cannot be written ({error.strerror}); run it as the agent's user") from error


class EntryDoor:
    """Lets people in by their PIN, and limits guessing.

    Args:
        mono_ms: monotonic clock.
    """

    def __init__(self, people: EdgePeople, mono_ms: Callable[[], int]) -> None:
        self._people = people
        self._mono_ms = mono_ms
        self._failures: dict[str, deque[int]] = {}
        self._one_by_one = asyncio.Lock()  # 64 MiB and a core each

    async def admit(self, name: str, pin: str) -> None:
        """Return if this is the person. Raises EntryRefused: the PIN is wrong, or there were too many wrong ones."""
        async with self._one_by_one:
            key = name[:MOST_NAME_CHARACTERS]
            self._check_rate(key)
            # Counted before the check, so that a caller who goes away does not get a guess for nothing.
            self._failures.setdefault(key, deque()).append(self._mono_ms())
            try:
                right = await asyncio.to_thread(self._people.is_right, name, pin)
            except BadPerson as error:
                raise EntryRefused(str(error)) from error
            if not right:
                hint = "" if self._people.all() else "; nobody was added here yet: vitalloom edge person add NAME"
                raise EntryRefused(f"wrong name or PIN{hint}")
            self._failures[key].pop()

    def _check_rate(self, name: str) -> None:
        since_ms = self._mono_ms() - WITHIN_MS
        for key, failed in list(self._failures.items()):
            while failed and failed[0] <= since_ms:
                failed.popleft()
            if not failed:
                del self._failures[key]
        if len(self._failures.get(name, ())) >= FAILURES or sum(map(len, self._failures.values())) >= FAILURES_OF_ALL:
            raise EntryRefused(
                f"too many wrong PINs; try again in {WITHIN_MS // 60_000} minutes, or enter it at the desk"
            )


def _problem(name: str, pin: str) -> str:
    if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        return f"a name must have 1 to {MOST_NAME_CHARACTERS} printable characters"
    if not LEAST_PIN_CHARACTERS <= len(pin) <= MOST_PIN_CHARACTERS:
        return f"a PIN must have {LEAST_PIN_CHARACTERS} to {MOST_PIN_CHARACTERS} characters"
    if len(set(pin)) < LEAST_DIFFERENT or pin in _RUNS or name.casefold() in pin.casefold():
        return "a PIN must have at least 3 different characters, and be no row such as 123456 and not hold the name"
    return ""

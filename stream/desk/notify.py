"""Notifications through Apprise: addresses from a private file, one thread and one timeout for each message.

Apprise blocks, and some services accept a connection and never reply. So the threads of one address are limited, and
red alarms have threads of their own.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import threading
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType, PersistentStoreMode
from apprise.utils.parse import parse_urls

from runtime.hardening import read_private
from stream.desk.texts import Message
from stream.errors import DeskUnusable, NotificationNotAccepted
from vitals.messages import Priority

RED_THREADS: Final = 48
RED_AT_ONE_ADDRESS: Final = 4
OTHER_THREADS: Final = 16
OTHER_AT_ONE_ADDRESS: Final = 1

_KINDS: Final = {Priority.HIGH: NotifyType.FAILURE, Priority.MEDIUM: NotifyType.WARNING, Priority.LOW: NotifyType.INFO}
_WHOLE: Final = -1  # place of an address that names one recipient, or some that cannot be told apart
_STATUS: Final = re.compile(r"\berror[ =:]+(\d{3})\b", re.IGNORECASE)


# Attributes in which Apprise's plugins keep the recipients of one URL.
_RECIPIENTS: Final = (
    "targets", "topics", "channels", "channel_ids", "users", "dm_users", "groups", "rooms", "phone", "target_phones",
    "target_groups", "devices", "members", "events", "subreddits", "cc", "bcc",
)  # fmt: skip


class Address(NamedTuple):
    """One recipient of one person's address for one channel.

    `repr` shows person, channel and scheme: the rest is secret. A URL that names several recipients is several
    addresses: each has a status, retries and a receipt of its own.
    """

    person: str
    channel: str
    url: str
    place: int = -1  # which of the recipients of the URL; -1: all of it
    number: int = 1  # of recipients of this person by this channel
    ordinal: int = 1  # among those
    recipient: str = ""  # identifies the recipient as long as it is the same, without telling who it is

    def __repr__(self) -> str:
        of_several = f", recipient {self.ordinal} of {self.number}" if self.number > 1 else ""
        return f"{self.person}/{self.channel} ({self.scheme}{of_several})"

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]


class Addresses:
    """Addresses of all people: a TOML file with a table for each person, and in it a URL for each channel.

    Args:
        path: of the file, which must be private.

    Raises:
        DeskUnusable: the file is missing or invalid; the text never contains an address.
        NotPrivate: other users can read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_place = {(one.person, one.channel): _recipients(one) for one in _read(path)}

    def recipients(self, person: str, channel: str) -> list[Address]:
        """Everybody whom a person's address for a channel names; empty if there is none."""
        return self._by_place.get((person, channel), [])

    def recipient(self, person: str, channel: str, recipient: str) -> Address | None:
        """One of them; None if it was removed. Empty: an earlier version did not tell them apart."""
        found = self.recipients(person, channel)
        return next((one for one in found if one.recipient == recipient or not recipient), None)

    def of(self, person: str) -> list[Address]:
        return [one for these in self._by_place.values() for one in these if one.person == person]

    @property
    def people(self) -> list[str]:
        return list(dict.fromkeys(person for person, _ in self._by_place))

    def check(self) -> None:
        """Check that Apprise can use every address.

        Raises:
            DeskUnusable: names the first that it cannot use.
        """
        for one in (one for these in self._by_place.values() for one in these):
            if _service(one) is None:
                raise DeskUnusable(
                    f"{self.path}: Apprise cannot use the address {one}; for the format see Apprise's list of services"
                )


class Notifier:
    """Sends messages with a timeout, in a bounded number of threads.

    Args:
        within_s: timeout for a service to accept a message.
        on_late: called if a service accepts a message after that, with the address and the `name` given to `send`.
    """

    def __init__(self, *, within_s: float, on_late: Callable[[Address, object], None] | None = None) -> None:
        self._within_s = within_s
        self._on_late = on_late
        self._red = _Threads(RED_THREADS, RED_AT_ONE_ADDRESS)
        self._other = _Threads(OTHER_THREADS, OTHER_AT_ONE_ADDRESS)
        for name in ("apprise", "urllib3"):
            logging.getLogger(name).propagate = False  # their log lines may contain an address

    @property
    def threads(self) -> int:
        """Number of busy threads."""
        return self._red.busy + self._other.busy

    async def send(self, address: Address, message: Message, *, name: object = None) -> None:
        """Send a message; returns when the service has accepted it.

        Raises:
            NotificationNotAccepted: it refused, or timed out; after a timeout it may still accept the message.
        """
        threads = self._red if message.priority is Priority.HIGH else self._other
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._within_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await threads.enter(address)
        except TimeoutError:
            raise NotificationNotAccepted(
                f"{address}: earlier messages to it have no reply yet; not sent within {self._within_s:g} s"
            ) from None
        done = self._begin(threads, address, message)
        await asyncio.wait((done,), timeout=deadline_s - loop.time())
        if not done.done():
            done.add_done_callback(lambda late: self._tell_late(late, address, name))
            raise NotificationNotAccepted(f"{address}: no reply within {self._within_s:g} s")
        problem = done.result()
        if problem:
            raise NotificationNotAccepted(f"{address}: {problem}")

    def _begin(self, threads: "_Threads", address: Address, message: Message) -> "asyncio.Future[str]":
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def finish(problem: str) -> None:
            threads.leave(address)
            if not done.done():
                done.set_result(problem)

        def work() -> None:
            problem = _deliver(address, message)
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(finish, problem)

        # A daemon thread, not a pool: a service that never replies must not keep the process from ending.
        threading.Thread(target=work, name=f"to {address.person}/{address.channel}", daemon=True).start()
        return done

    def _tell_late(self, done: "asyncio.Future[str]", address: Address, name: object) -> None:
        if not done.cancelled() and not done.result() and self._on_late is not None:
            self._on_late(address, name)


class _Threads:
    """Limits of threads, in total and for one address."""

    def __init__(self, most: int, most_at_one: int) -> None:
        self._most = most
        self._most_at_one = most_at_one
        self._by_address: Counter[Address] = Counter()
        self._left = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        return self._by_address.total()

    async def enter(self, address: Address) -> None:
        """Wait for a free thread; waiting for one address does not block others."""
        async with self._left:
            await self._left.wait_for(lambda: self.busy < self._most and self._by_address[address] < self._most_at_one)
            self._by_address[address] += 1

    def leave(self, address: Address) -> None:
        self._by_address[address] -= 1
        task = asyncio.get_running_loop().create_task(self._wake(), name="a thread is free")
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def _wake(self) -> None:
        async with self._left:
            self._left.notify_all()


def _deliver(address: Address, message: Message) -> str:
    """Send, in a thread. Returns the problem, without parts of the address; empty if the message was accepted."""
    try:
        service = _service(address)
        if service is None:
            return "Apprise cannot use this address"
        accepted = service.notify(
            body=message.body, title=message.title, notify_type=_KINDS[message.priority], body_format=NotifyFormat.TEXT
        )
    except Exception as error:  # noqa: BLE001 - any plugin may raise anything; other channels go on
        return f"Apprise failed ({type(error).__name__})"
    if accepted:
        return ""
    statuses = [found.group(1) for line in accepted.logs() if (found := _STATUS.search(line.message))]
    return f"the service answered {statuses[-1]}" if statuses else "cannot be reached, or refused the message"


def _service(address: Address) -> Apprise | None:
    """A new Apprise object for each message, because it throttles by the time of its last message."""
    asset = _asset()
    service = _plugin(address.url, asset)
    if service is None:
        return None
    named = _named(service)
    if address.place != _WHOLE and len(named) > 1:
        _narrow(service, *named[address.place])
    made = Apprise(asset=asset)
    return made if made.add(service) else None


def _recipients(address: Address) -> list[Address]:
    """An address for each recipient that a line of the file names: several URLs, or one URL with several recipients."""
    found = []
    urls: list[str] = parse_urls(address.url)  # type: ignore[no-untyped-call]
    for url in urls or [address.url]:
        service = _plugin(url, _asset())
        named = [] if service is None else _named(service)
        if service is not None and len(named) > 1 and all(_is_single(url, *one) for one in named):
            found += [
                address._replace(url=url, place=place, recipient=_digest(service, item))
                for place, (_, item) in enumerate(named)
            ]
        else:
            item = named[0][1] if len(named) == 1 else url
            digest = hashlib.sha256(url.encode()).hexdigest()[:16] if service is None else _digest(service, item)
            found.append(address._replace(url=url, place=_WHOLE, recipient=digest))
    return [one._replace(number=len(found), ordinal=place) for place, one in enumerate(found, start=1)]


def _plugin(url: str, asset: AppriseAsset) -> NotifyBase | None:
    service = Apprise.instantiate(url, asset=asset)
    return service if isinstance(service, NotifyBase) else None


def _named(service: NotifyBase) -> list[tuple[str, Any]]:
    """The recipients of a service: the attribute and the item."""
    found = []
    for name in _RECIPIENTS:
        items = getattr(service, name, None)
        if isinstance(items, list | tuple | set):
            found += [(name, item) for item in (sorted(items, key=str) if isinstance(items, set) else items)]
    return found


def _narrow(service: NotifyBase, name: str, item: Any) -> None:
    """Leave a service one recipient."""
    if name in ("cc", "bcc"):  # a copy of an e-mail is an e-mail of its own
        name, item = "targets", (getattr(service, "names", {}).get(item, False), item)
    for other in _RECIPIENTS:
        items = getattr(service, other, None)
        if isinstance(items, list | tuple | set):
            setattr(service, other, type(items)([item] if other == name else []))


def _is_single(url: str, name: str, item: Any) -> bool:
    service = _plugin(url, _asset())
    if service is None:
        return False
    _narrow(service, name, item)
    return len(service) == 1


def _digest(service: NotifyBase, item: Any) -> str:
    """The same for the same recipient of the same account, whatever else the URL says."""
    return hashlib.sha256(repr((service.url_identifier, item)).encode()).hexdigest()[:16]


def _asset() -> AppriseAsset:
    return AppriseAsset(
        app_id="vitalloom",
        app_desc="vitalloom alarm desk",
        async_mode=False,
        storage_mode=PersistentStoreMode.MEMORY,
        secure_logging=True,
        result_log_memory_size=16_384,
        # With a timeout Apprise uses one pool for all services: six that hang would block every notification.
        service_timeout=0,
    )


def _load_plugins() -> None:
    """Load Apprise's plugins at import, without their deprecation warnings; otherwise the first message would do it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        Apprise.instantiate("json://localhost")


_load_plugins()


def _read(path: Path) -> list[Address]:
    try:
        table = tomllib.loads(read_private(path).decode())
        found: Mapping[str, Mapping[str, str]] = msgspec.convert(table, dict[str, dict[str, str]])
    except FileNotFoundError:
        raise DeskUnusable(
            f"{path}: no such file; create it with mode 600: a table for each person, in it a URL for each channel"
        ) from None
    except OSError as error:
        raise DeskUnusable(f"{path}: cannot be read ({error.strerror})") from error
    except tomllib.TOMLDecodeError as error:
        # Only the position: the message of the parser may contain a part of an address.
        where = re.search(r"at line \d+, column \d+|at end of document", str(error))
        raise DeskUnusable(f"{path}: is not valid TOML{f' ({where.group()})' if where else ''}") from None
    except (UnicodeDecodeError, msgspec.ValidationError):
        raise DeskUnusable(f'{path}: must have a table for each person, in it channel = "URL"') from None
    return [Address(person, channel, url) for person, ways in found.items() for channel, url in ways.items()]

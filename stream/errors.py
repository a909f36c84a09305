"""Errors of the data centre."""

from pathlib import Path

from stream.refusals import Cause


class StreamError(Exception):
    """Base of every error of the stream room."""


class FileUnusable(StreamError):
    """A SQLite file that cannot be opened; the message names the file and the fix."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class CommitFailed(StreamError):
    """A commit that failed: nothing was written, and nothing of it may be acknowledged."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: nothing was written ({problem})")
        self.path = path


class RowRefused(CommitFailed):
    """A commit that fails because of a row in it, and will again: the disk and the file are well."""


class NothingToExport(StreamError):
    """A record that cannot be exported: no such binding or patient, or the file cannot be written."""


class WhatIfRefused(StreamError):
    """A comparison of orders that cannot be made as asked; the message names the option and the fix."""


class RegistryRefused(StreamError):
    """A change that the registry refuses; the message gives the reason and the fix."""


class OrdersRefused(RegistryRefused):
    """An order that is refused; the message names the key, and the fix."""


class NoSuchDevice(RegistryRefused):
    """A device that is not in the registry."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"device {name}: {problem}; `vitalloom pki show` lists them")
        self.name = name


class BadRequest(StreamError):
    """An HTTP request that cannot be decoded, with the status of the answer."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class EnrolmentRefused(StreamError):
    """A device's request for enrolment, renewal or a new prekey that is refused."""

    def __init__(self, status: int, problem: str, *, commit: bool = False) -> None:
        super().__init__(problem)
        self.status = status  # of HTTP
        self.commit = commit  # keep the changes made before the refusal: the token is spent


class SiteUnusable(StreamError):
    """A site folder that is incomplete or cannot be used; the message names the file and the fix."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class HttpServerFailed(StreamError):
    """An HTTP server that does not start."""

    def __init__(self, name: str, host: str, port: int, problem: str) -> None:
        super().__init__(f"{name} on {host}:{port} {problem}")


class AuditBroken(StreamError):
    """An audit log that was altered or damaged, and the first line that is wrong."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class KafkaUnusable(StreamError):
    """Kafka does not answer, or a topic is missing or wrong; the message names the topic and the fix."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"Kafka at {address}: {problem}")
        self.address = address


class AlarmSourceLost(StreamError):
    """What the alarm desk reads from or writes to does not answer; the message names it."""


class DatabaseUnusable(StreamError):
    """InfluxDB does not answer or refuses a request; the message says why, and the fix."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"InfluxDB at {url}: {problem}")
        self.url = url


class DatabaseFailed(StreamError):
    """A request that InfluxDB did not carry out.

    Args:
        cause: what the failure depends on, and so what to do.
        status: of the HTTP answer; None: there was none, or the failure was within an answer.
        after_s: when to try again, from the answer; None: not in the answer.
        dropped: how many lines of a write were refused, if the answer says so; 0: it does not.
    """

    def __init__(
        self,
        problem: str,
        *,
        cause: Cause,
        status: int | None = None,
        after_s: float | None = None,
        dropped: int = 0,
    ) -> None:
        super().__init__(problem)
        self.cause = cause
        self.status = status
        self.after_s = after_s
        self.dropped = dropped


class DeskUnusable(StreamError):
    """An alarm desk that cannot start; the message names the key or file, and the fix."""


class NotificationNotAccepted(StreamError):
    """A notification that its service did not accept; the message names channel and person, never an address."""


class NoSuchAlarm(StreamError):
    """An answer to an alarm that is not on the desk's list."""

    def __init__(self) -> None:
        super().__init__("there is no such alarm on the list; it may have ended")


class AlarmChangedMeanwhile(StreamError):
    """An answer to an earlier revision of an alarm that has changed since."""

    def __init__(self, *, revision: int) -> None:
        super().__init__("the alarm has changed since you looked; look again, then answer")
        self.revision = revision


class DeskRequestRefused(StreamError):
    """A request to the desk that is refused, with the status of the answer."""

    def __init__(self, status: int, problem: str, *, retry_s: int | None = None) -> None:
        super().__init__(problem)
        self.status = status  # of HTTP
        self.retry_s = retry_s


class DeskCommandFailed(StreamError):
    """A command that the desk cannot carry out or that does not reach it; the message says why, and the fix."""


class ValueIsExtreme(DeskCommandFailed):
    """The desk asks to confirm that a value is right."""

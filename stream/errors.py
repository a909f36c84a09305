"""What can go wrong in the data centre, on one screen."""

from pathlib import Path


class StreamError(Exception):
    """Base of every error of the stream room."""


class FileUnusable(StreamError):
    """A store that cannot be opened."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class CommitFailed(StreamError):
    """A commit that did not happen: nothing of it is in the store, nothing of it may be acknowledged."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: nothing was written ({problem})")
        self.path = path


class RegistryRefused(StreamError):
    """A change that the registry refuses; the message gives the reason and the fix."""


class NoSuchDevice(RegistryRefused):
    """A device that is not in the registry."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"device {name}: {problem}; `vitalloom pki show` lists them")
        self.name = name


class BadRequest(StreamError):
    """What was sent to the registry is not a request; with the status of the answer."""

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
    """A server of ours that does not come up."""

    def __init__(self, name: str, host: str, port: int, problem: str) -> None:
        super().__init__(f"{name} on {host}:{port} {problem}")


class AuditBroken(StreamError):
    """An audit log that was altered or damaged, and the first line where that shows."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class KafkaUnusable(StreamError):
    """Kafka's topics are not as they have to be; the message names the topic and the cure."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"Kafka at {address}: {problem}")
        self.address = address


class AlarmSourceLost(StreamError):
    """What the alarm desk reads from or writes to does not answer; the message names it."""


class DatabaseUnusable(StreamError):
    """InfluxDB is not as it has to be; the message says what, and the cure."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"InfluxDB at {url}: {problem}")
        self.url = url


class LinesRejected(StreamError):
    """InfluxDB does not want one or more of these lines."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(f"lines refused ({status}): {problem}")
        self.status = status


class DeskUnusable(StreamError):
    """An alarm desk that cannot begin; the message names the key or file, and the cure."""


class NotificationNotAccepted(StreamError):
    """A notification that was not accepted; the message names channel and person, never an address."""


class NoSuchAlarm(StreamError):
    """An alarm that is not on the list."""

    def __init__(self) -> None:
        super().__init__("there is no such alarm on the list; it may be over")


class AlarmChangedMeanwhile(StreamError):
    """An alarm that is not any more what somebody has seen."""

    def __init__(self, *, revision: int) -> None:
        super().__init__("the alarm has changed since you looked; look again, then answer")
        self.revision = revision


class DeskRequestRefused(StreamError):
    """A request to the desk that is answered with no."""

    def __init__(self, status: int, problem: str, *, retry_s: int | None = None) -> None:
        super().__init__(problem)
        self.status = status  # of HTTP
        self.retry_s = retry_s


class DeskCommandFailed(StreamError):
    """What a person's command cannot do at the desk; the message says why, and the cure."""

"""Errors of the wire: frames, payloads, topics, keys, invitations and enrolment."""

from enum import StrEnum


class WireError(Exception):
    """Base of every error of the wire."""


class Reason(StrEnum):
    """Why a frame was refused. These words are counters: they go to metrics, heartbeats and summaries."""

    LENGTH = "length"
    MAGIC = "magic"
    VERSION = "version"
    SUITE = "suite"
    TYPE = "type"
    CLASS = "class"
    RESERVED = "reserved"
    TOPIC = "topic"
    UNKNOWN_SENDER = "unknown_sender"
    REVOKED = "revoked"
    TENANT = "tenant"
    RECIPIENT = "recipient"
    SESSION_ID = "session_id"
    CREDENTIAL = "credential"
    SIGNATURE = "signature"
    BINDING = "binding"
    CLONE_OR_ROLLBACK = "clone_or_rollback"
    PREKEY = "prekey"
    HPKE = "hpke"
    NEED_SESSION = "need_session"
    AUTH = "auth"
    RANGES_FULL = "ranges_full"
    COUNTER_CONFLICT = "counter_conflict"
    PADDING = "padding"
    SCHEMA = "schema"
    VALUE = "value"
    RATE = "rate"
    PROCESSING = "processing"
    ROLE = "role"


REASON_CODE = {reason: code for code, reason in enumerate(Reason, start=1)}
"""The byte that an ACK frame carries for a reason. Reasons are only ever appended."""


class Rejected(WireError):
    """A frame that is refused. The state of the receiver is as it was before."""

    def __init__(
        self, reason: Reason, detail: str = "", *, session_id: bytes | None = None, last_number: int | None = None
    ) -> None:
        super().__init__(f"frame refused ({reason}){': ' + detail if detail else ''}")
        self.reason = reason
        self.detail = detail
        self.session_id = session_id  # with NEED_SESSION and CLONE_OR_ROLLBACK: which session to answer about
        self.last_number = last_number  # with CLONE_OR_ROLLBACK: the highest session number that was accepted


class DecodeError(WireError):
    """An authentic payload that does not say what its schema allows."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class BadTopic(WireError):
    """A topic that does not belong to vitalloom."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"not a topic of vitalloom: {topic[:80]!r}")
        self.topic = topic


class SessionSpent(WireError):
    """A sending session that may not seal any more: it reached its last counter, or this is a forked process."""


class BadSigningRequest(WireError):
    """A certificate signing request that is not answered."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"signing request refused: {problem}")


class BadKeyFile(WireError):
    """A file that should hold a private key."""


class BadInvitation(WireError):
    """A text that should be an invitation to enrol."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"not an invitation: {problem}")


class BadProof(WireError):
    """A request whose keys or signatures do not fit together."""


class NotEnrolled(WireError):
    """A folder without an identity, or one that cannot be used; the message names the fix."""


class EnrolmentFailed(WireError):
    """The registry could not be reached, is not the announced one, or refused the request."""


class NoSuchStay(WireError):
    """A name means no patient who is monitored, or more than one; the message says which, and what to do."""

    def __init__(self, problem: str, *, is_known: bool) -> None:
        super().__init__(problem)
        self.is_known = is_known  # there is such a patient: discharged, or one of several

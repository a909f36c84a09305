"""The audit log: one JSON object a line, each bound to the one before it by a hash.

The chain reveals lines that were altered, removed, inserted or moved. By itself it cannot reveal that lines are missing
at the end, or that the whole file was rewritten: both leave a valid chain. Hence heads: the hash of the last line is
noted in another place (the registry keeps one; a printed one is better), and `verify` looks for it.
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import msgspec

from stream.errors import AuditBroken

Value = str | int | bool | None
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

TEXT_CHARACTERS: Final = 500
LINE_BYTES: Final = 1 << 16
PROGRESS_EVERY: Final = 1_000

_FIRST: Final = "00" * 32
_CONTEXT: Final = b"vitalloom audit\0"
_BLOCK: Final = 1 << 20


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line: a change, its author and its subject."""

    n: int  # 1, 2, 3 ...
    at_ms: int
    who: str
    what: str
    subject: str
    detail: dict[str, Value]
    prev: Digest  # the hash of the line before; zeros for the first
    hash: Digest = ""  # of `prev` and of everything above; empty, and so not in the JSON, while it is computed


class ChainHead(NamedTuple):
    """The last line of a chain; of an empty one, n is 0."""

    n: int
    hash: str


class AuditLog:
    """Appends to one file. Several processes may do so, each with its own object; the file is never rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, what: str, *, at_ms: int, who: str, subject: str, **detail: Value) -> AuditRecord:
        """Append a line; it is on disk when this returns. Long texts are cut to 500 characters.

        Raises:
            AuditBroken: the last line is torn or altered; nothing was appended.
            OSError: the line could not be written, and is not in the chain.
        """
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file.fileno()).st_size
            last = _head(file, self.path, size)
            record = _sealed(
                AuditRecord(
                    n=last.n + 1,
                    at_ms=at_ms,
                    who=_text(who),
                    what=_text(what),
                    subject=_text(subject),
                    detail={key: _text(one) if isinstance(one, str) else one for key, one in detail.items()},
                    prev=last.hash,
                )
            )
            _write(file.fileno(), _line(record), at=size)
            if size == 0:
                _sync_folder(self.path)
        return record


def head(path: Path) -> ChainHead:
    """The last line of a log; the other lines are not checked. Raises AuditBroken."""
    with _opened(path) as file:
        return _head(file, path, _length(file))


def records(path: Path) -> Iterator[AuditRecord]:
    """The lines of a log, the oldest first, as far as they can be read; `verify` checks them. No log: none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(line, type=AuditRecord)


def verify(path: Path, *, head: str | None = None, progress: Callable[[int], None] | None = None) -> ChainHead:
    """Check every line against the one before it, in constant memory; lines can be appended meanwhile.

    A chain alone cannot reveal that lines are missing at its end: the rest is a valid chain. With a head that was noted
    elsewhere this is detected, because no line has that hash.

    Args:
        head: a hash that has to be in the chain.
        progress: called with the number of lines checked, after every thousand and at the end.

    Raises:
        AuditBroken: with the first line that is altered, missing, moved, inserted, torn or not a record.
    """
    last, missing = ChainHead(0, _FIRST), head is not None and head != _FIRST
    with _opened(path) as file:
        length = _length(file)
        while file.tell() < length:
            last = _follower(file.readline(LINE_BYTES + 1), last, path)
            missing = missing and last.hash != head
            if progress is not None and last.n % PROGRESS_EVERY == 0:
                progress(last.n)
    if missing:
        raise AuditBroken(
            path,
            last.n + 1,
            f"the noted head {head} is not in the chain: lines are missing at the end, or the whole log was rewritten",
        )
    if progress is not None and last.n % PROGRESS_EVERY:
        progress(last.n)
    return last


# The chain


def _sealed(record: AuditRecord) -> AuditRecord:
    """The record with its hash. A record that `verify` would reject is never written."""
    sealed = msgspec.structs.replace(record, hash=_hash(record))
    line = _line(sealed)
    if len(line) > LINE_BYTES:
        raise ValueError(f"an audit record of {len(line)} bytes, over the limit of {LINE_BYTES}: give it fewer details")
    msgspec.json.decode(line, type=AuditRecord)
    return sealed


def _follower(line: bytes, last: ChainHead, path: Path) -> ChainHead:
    number = last.n + 1
    record = _record(line, path, number)
    if record.n != number:
        raise AuditBroken(path, number, f"is record {record.n}: lines were removed, inserted or moved here")
    if record.prev != last.hash:
        raise AuditBroken(path, number, "does not continue the line before it: one of the two was replaced")
    return ChainHead(record.n, record.hash)


def _record(line: bytes, path: Path, number: int) -> AuditRecord:
    """Decode a line, and check that it is complete, in canonical form, and has the right hash."""
    if len(line) > LINE_BYTES:
        raise AuditBroken(path, number, f"is longer than {LINE_BYTES} bytes, the limit of a record")
    if not line.endswith(b"\n"):
        raise AuditBroken(path, number, "is incomplete: its end is missing")
    try:
        record = msgspec.json.decode(line, type=AuditRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditBroken(path, number, "is not a record") from error
    if _line(record) != line or _hash(msgspec.structs.replace(record, hash="")) != record.hash:
        raise AuditBroken(path, number, "was altered: its content does not match its hash")
    return record


def _line(record: AuditRecord) -> bytes:
    return msgspec.json.encode(record, order="sorted") + b"\n"


def _hash(record: AuditRecord) -> str:
    content = msgspec.json.encode(record, order="sorted")
    return hashlib.sha256(_CONTEXT + bytes.fromhex(record.prev) + content).hexdigest()


def _text(text: str) -> str:
    # Half of a surrogate pair cannot be encoded, and would prevent the whole line from being written.
    text = text[: TEXT_CHARACTERS + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"


# The file


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise AuditBroken(path, 1, "file not found; fix: restore the latest copy") from error


def _length(file: BinaryIO) -> int:
    """Length up to the end of the last complete line, even while another process appends one."""
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        return os.fstat(file.fileno()).st_size
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _head(file: BinaryIO, path: Path, size: int) -> ChainHead:
    if size == 0:
        return ChainHead(0, _FIRST)
    begin, line = _last_line(file, size)
    try:
        record = _record(line, path, 0)
    except AuditBroken as error:
        problem = f"{error.problem}; nothing can be appended; fix: {_fix(path, begin, line)}"
        raise AuditBroken(path, _newlines(file, begin) + 1, problem) from error
    return ChainHead(record.n, record.hash)


def _last_line(file: BinaryIO, size: int) -> tuple[int, bytes]:
    """Its offset, and the line; only the last bytes of one that is too long."""
    begin = max(0, size - LINE_BYTES - 1)
    file.seek(begin)
    tail = file.read(size - begin)
    before = tail.rfind(b"\n", 0, -1) + 1
    return begin + before, tail[before:]


def _newlines(file: BinaryIO, end: int) -> int:
    file.seek(0)
    count = 0
    while (left := end - file.tell()) > 0 and (block := file.read(min(_BLOCK, left))):
        count += block.count(b"\n")
    return count


def _fix(path: Path, begin: int, line: bytes) -> str:
    name = shlex.quote(str(path))
    if line.endswith(b"\n") or len(line) > LINE_BYTES:
        return "rename the file and note the reason; the next line then begins a new log"
    # A power cut: the line was not finished, so the change that it describes was not made either.
    return f"keep a copy of it, then truncate -s {begin} {name} and vitalloom audit verify"


def _write(descriptor: int, line: bytes, *, at: int) -> None:
    """Write the whole line or nothing."""
    try:
        written = os.write(descriptor, line)
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, at)
        raise


def _sync_folder(path: Path) -> None:
    """A new file survives a power cut only if its folder entry is on disk, too."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

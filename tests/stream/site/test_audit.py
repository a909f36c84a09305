"""Every alteration of an audit log is noticed, and at which line; a log that is damaged is not continued."""

import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream.errors import AuditBroken, StreamError
from stream.site import audit
from stream.site.audit import LINE_BYTES, TEXT_CHARACTERS, AuditLog, AuditRecord, ChainHead, verify
from stream.site.audit import head as head_of

NOW = 1_767_600_000_000
ZEROS = "00" * 32
LINES = 5


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """Five lines of an afternoon."""
    log = AuditLog(tmp_path / "audit.log")
    for n in range(1, LINES + 1):
        log.append(
            "bound",
            at_ms=NOW + n,
            who="administrator",
            subject=f"device-{n}",
            bed=f"7-{n}",
            tries=n,
            late=False,
            to=None,
        )
    return log


def lines(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def facts(line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def a_line(**fields: Any) -> bytes:
    """A line made by hand: by the book, whatever it says."""
    del fields["hash"]
    content = canonical(fields)
    made = hashlib.sha256(b"vitalloom audit\0" + bytes.fromhex(fields["prev"]) + content).hexdigest()
    return canonical({**fields, "hash": made}) + b"\n"


def canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def broken_at(log: AuditLog, number: int, problem: str = "", *, head: str | None = None) -> None:
    with pytest.raises(AuditBroken, match=problem or None) as found:
        verify(log.path, head=head)
    assert found.value.line == number
    assert str(found.value).startswith(f"{log.path}, line {number}: ")


# What is written


def test_a_line_is_compact_sorted_json_with_the_hash_of_all_before(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")

    first = log.append("bound", at_ms=NOW, who="Zoë", subject="ab12", bed="7-1", tries=2, late=True, to=None)
    second = log.append("unbound", at_ms=NOW, who="Zoë", subject="ab12")

    content = (
        '{"at_ms":1767600000000,"detail":{"bed":"7-1","late":true,"to":null,"tries":2},"n":1,'
        f'"prev":"{ZEROS}","subject":"ab12","what":"bound","who":"Zoë"}}'
    )
    made = hashlib.sha256(b"vitalloom audit\0" + bytes(32) + content.encode()).hexdigest()
    assert first == AuditRecord(
        n=1,
        at_ms=NOW,
        who="Zoë",
        what="bound",
        subject="ab12",
        prev=ZEROS,
        hash=made,
        detail={"bed": "7-1", "tries": 2, "late": True, "to": None},
    )
    assert lines(log)[0].decode() == content.replace('"n":1', f'"hash":"{made}","n":1') + "\n"
    assert (second.n, second.prev) == (2, made)
    assert lines(log)[1] == a_line(**facts(lines(log)[1]))


def test_a_log_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        AuditLog(tmp_path / "audit.log").append("bound", at_ms=NOW, who="w", subject="s")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["a\nb", "\r\n", "\x00\x1b[2J", '","who":"somebody else"', "\u2028\u2029\x85", "🛏️", "\ud800", ""]
)
def test_no_text_breaks_a_line(log: AuditLog, text: str) -> None:
    log.append(text, at_ms=NOW, who=text, subject=text, note=text)

    assert verify(log.path).n == LINES + 1
    assert len(lines(log)) == LINES + 1
    assert facts(lines(log)[-1])["who"] == text.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("letter", ["x", "ü", "\x00", "🛏"])
@pytest.mark.parametrize(("characters", "cut"), [(499, False), (500, False), (501, True), (100_000, True)])
def test_long_texts_are_cut(log: AuditLog, letter: str, characters: int, cut: bool) -> None:
    text = letter * characters

    record = log.append(text, at_ms=NOW, who=text, subject=text, note=text)

    for kept in (record.what, record.who, record.subject, record.detail["note"]):
        assert kept == (letter * (TEXT_CHARACTERS - 1) + "…" if cut else text)
    assert verify(log.path).n == LINES + 1


@pytest.mark.parametrize("value", [0.5, ["a"], {"a": 1}])
def test_what_would_not_verify_is_not_written(log: AuditLog, value: Any) -> None:
    before = log.path.read_bytes()

    with pytest.raises(ValueError, match="detail"):
        log.append("bound", at_ms=NOW, who="w", subject="s", value=value)

    assert log.path.read_bytes() == before


def test_a_record_that_no_reader_would_take_is_not_written(log: AuditLog) -> None:
    before = log.path.read_bytes()

    with pytest.raises(ValueError, match=f"over the limit of {LINE_BYTES}"):
        log.append("bound", at_ms=NOW, who="w", subject="s", **{f"key{n}": "\x00" * 500 for n in range(30)})

    assert log.path.read_bytes() == before


def test_the_largest_record_is_read_back(log: AuditLog) -> None:
    room = LINE_BYTES - len(a_line(**facts(lines(log)[-1]) | {"detail": {"": ""}}))
    big = {f"k{n:03}": "x" * 488 for n in range(room // 500 - 1)}
    log.append("bound", at_ms=NOW, who="w", subject="s", **big)
    log.append("unbound", at_ms=NOW, who="w", subject="s")

    assert verify(log.path).n == LINES + 2


def test_a_restart_goes_on_with_the_chain(log: AuditLog) -> None:
    again = AuditLog(log.path).append("restarted", at_ms=NOW, who="w", subject="s")

    assert again.n == LINES + 1
    assert verify(log.path) == head_of(log.path) == ChainHead(LINES + 1, again.hash)


def test_appending_reads_the_end_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit.log")
    for n in range(1_000):
        log.append("bound", at_ms=NOW, who="w", subject=f"device-{n}", note="x" * 400)
    size = log.path.stat().st_size

    damaged = bytearray(log.path.read_bytes())
    damaged[: size - LINE_BYTES - 1_000] = b"?" * (size - LINE_BYTES - 1_000)
    log.path.write_bytes(damaged)

    assert log.append("bound", at_ms=NOW, who="w", subject="s").n == 1_001


# What is noticed


FIELDS = {
    "n": [0, 2, 4, -1, "3", 3.0, None],
    "at_ms": [NOW, 0, "x"],
    "who": ["somebody else", "", 7],
    "what": ["unbound", None],
    "subject": ["device-4", []],
    "detail": [{}, {"bed": "7-3"}, {"bed": "7-9", "tries": 3, "late": False, "to": None}, None],
    "prev": [ZEROS, "ab" * 32, "", "AB" * 32, "ä"],
    "hash": [ZEROS, "ab" * 32, "", None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, all_ in FIELDS.items() for value in all_])
@pytest.mark.parametrize("number", [1, 3, LINES])
def test_an_altered_field_is_noticed(log: AuditLog, field: str, value: Any, number: int) -> None:
    kept = lines(log)
    found = facts(kept[number - 1])
    if found[field] == value:
        value = "else" if isinstance(value, str) else value + 1
    kept[number - 1] = canonical({**found, field: value}) + b"\n"
    log.path.write_bytes(b"".join(kept))

    broken_at(log, number)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("number", [1, 3, LINES])
def test_a_missing_field_is_noticed(log: AuditLog, field: str, number: int) -> None:
    kept = lines(log)
    found = facts(kept[number - 1])
    del found[field]
    kept[number - 1] = canonical(found) + b"\n"
    log.path.write_bytes(b"".join(kept))

    broken_at(log, number)


@pytest.mark.parametrize(
    ("field", "value"), [("at_ms", 1), ("who", "other"), ("what", "other"), ("subject", "other"), ("detail", {})]
)
@pytest.mark.parametrize("number", [1, 3, LINES - 1])
def test_an_altered_line_with_a_new_hash_does_not_fit_the_next(
    log: AuditLog, field: str, value: Any, number: int
) -> None:
    kept = lines(log)
    kept[number - 1] = a_line(**{**facts(kept[number - 1]), field: value})
    log.path.write_bytes(b"".join(kept))

    broken_at(log, number + 1, "does not continue")


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("number", [1, 3, LINES])
def test_another_number_with_a_new_hash_does_not_fit_its_place(log: AuditLog, by: int, number: int) -> None:
    kept = lines(log)
    kept[number - 1] = a_line(**{**facts(kept[number - 1]), "n": number + by})
    log.path.write_bytes(b"".join(kept))

    broken_at(log, number, f"is record {number + by}")


@pytest.mark.parametrize("change", [b" ", b"\t", b"\r", b"\x00"])
@pytest.mark.parametrize("place", ["before", "after", "within"])
def test_another_way_to_write_the_same_is_noticed(log: AuditLog, change: bytes, place: str) -> None:
    kept = lines(log)
    line = kept[2][:-1]
    kept[2] = {"before": change + line, "after": line + change, "within": line.replace(b":", b":" + change, 1)}[place]
    log.path.write_bytes(b"\n".join([b"".join(kept[:2])[:-1], kept[2], b"".join(kept[3:])]))

    broken_at(log, 3)


@pytest.mark.parametrize(
    "twice",
    [b'"who":"somebody else","who":', b'"extra":1,"who":', b'"\\u0077ho":'],
    ids=["the same key", "another key", "an escaped key"],
)
def test_a_second_meaning_is_noticed(log: AuditLog, twice: bytes) -> None:
    kept = lines(log)
    kept[2] = kept[2].replace(b'"who":', twice)
    log.path.write_bytes(b"".join(kept))

    broken_at(log, 3)


def test_every_flipped_bit_of_a_line_is_noticed(log: AuditLog) -> None:
    whole, begin = log.path.read_bytes(), len(b"".join(lines(log)[:2]))
    for place in range(begin, begin + len(lines(log)[2])):
        for bit in (0, 5, 7):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            log.path.write_bytes(flipped)
            broken_at(log, 3)


@pytest.mark.parametrize("number", range(1, LINES))
def test_a_missing_line_is_noticed(log: AuditLog, number: int) -> None:
    kept = lines(log)
    del kept[number - 1]
    log.path.write_bytes(b"".join(kept))

    broken_at(log, number, "removed, inserted or moved")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 4), (1, 5), (4, 5)])
def test_swapped_lines_are_noticed(log: AuditLog, one: int, other: int) -> None:
    kept = lines(log)
    kept[one - 1], kept[other - 1] = kept[other - 1], kept[one - 1]
    log.path.write_bytes(b"".join(kept))

    broken_at(log, one)


@pytest.mark.parametrize("number", range(1, LINES + 1))
@pytest.mark.parametrize("what", ["a copy", "a line by the book", "nothing", "no JSON", "no object", "half a letter"])
def test_an_inserted_line_is_noticed(log: AuditLog, number: int, what: str) -> None:
    kept = lines(log)
    before = facts(kept[number - 2])["hash"] if number > 1 else ZEROS
    by_the_book = a_line(**{**facts(kept[0]), "n": number, "prev": before, "who": "somebody else"})
    inserted = {
        "a copy": kept[-1],
        "a line by the book": by_the_book,
        "nothing": b"\n",
        "no JSON": b"hello\n",
        "no object": b"[1]\n",
        "half a letter": kept[0].replace(b"administrator", b"\xc3"),
    }[what]
    kept.insert(number - 1, inserted)
    log.path.write_bytes(b"".join(kept))

    # A line that fits the one before it shows by the one after it.
    at = {"a line by the book": number + 1, "a copy": number + (number == LINES)}.get(what, number)
    broken_at(log, at)


def test_an_endless_line_is_refused_without_reading_it(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.truncate(1 << 26)  # a hole of 64 MiB

    tracemalloc.start()
    try:
        broken_at(log, LINES + 1, "longer than")
        with pytest.raises(AuditBroken, match=r"longer than.*rename the file"):
            log.append("bound", at_ms=NOW, who="w", subject="s")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", [b'{"detail":', b'{"detail":{"a":', b'{"other":', b""])
def test_deep_nesting_is_no_record(log: AuditLog, place: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(place + b"[" * 50_000 + b"\n")

    broken_at(log, LINES + 1, "not a record")


# What a power cut leaves


def test_a_last_line_that_is_torn_is_noticed_and_never_continued(log: AuditLog) -> None:
    whole, begin = log.path.read_bytes(), len(b"".join(lines(log)[:-1]))
    for length in range(begin + 1, len(whole)):
        log.path.write_bytes(whole[:length])

        broken_at(log, LINES, "is incomplete")
        for look in (head_of, lambda path: AuditLog(path).append("bound", at_ms=NOW, who="w", subject="s")):
            with pytest.raises(AuditBroken, match="is incomplete") as found:
                look(log.path)
            assert found.value.line == LINES
            assert f"truncate -s {begin} {log.path} " in str(found.value)
        assert log.path.read_bytes() == whole[:length]


@pytest.mark.services
def test_the_cure_for_a_torn_line_is_one(log: AuditLog) -> None:
    torn = lines(log)[-1][:20]
    with log.path.open("ab") as file:
        file.write(torn)
    with pytest.raises(AuditBroken) as found:
        log.append("bound", at_ms=NOW, who="w", subject="s")

    fix = str(found.value).split("then ")[1].split(" and ")[0]
    subprocess.run(fix.split(), check=True)

    assert log.append("bound", at_ms=NOW, who="w", subject="s").n == LINES + 1
    assert verify(log.path).n == LINES + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"administrator", b"administratos"),
        lambda line: bytes(len(line) - 1) + b"\n",
        lambda _: b"\n",
        lambda _: b"hello\n",
    ],
    ids=["altered", "zeros", "empty", "something else"],
)
def test_a_damaged_last_line_is_never_continued(log: AuditLog, damage: Callable[[bytes], bytes]) -> None:
    kept = lines(log)
    log.path.write_bytes(b"".join(kept[:-1]) + damage(kept[-1]))
    before = log.path.read_bytes()

    with pytest.raises(StreamError, match="rename the file") as found:
        log.append("bound", at_ms=NOW, who="w", subject="s")

    assert str(found.value).startswith(f"{log.path}, line {LINES}: ")
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("failure", ["a part is written", "nothing is written", "it does not reach the disk"])
def test_what_cannot_be_written_leaves_no_trace(log: AuditLog, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    before, write = log.path.read_bytes(), os.write

    def full(*_: object) -> int:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        if failure == "a part is written":
            broken.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:20]))
        else:
            broken.setattr(os, "write" if failure == "nothing is written" else "fsync", full)
        with pytest.raises(OSError, match=r"no space left|only 20 of"):
            log.append("bound", at_ms=NOW, who="w", subject="s")

    assert log.path.read_bytes() == before
    assert log.append("bound", at_ms=NOW, who="w", subject="s").n == LINES + 1


def test_a_line_reaches_the_disk_and_with_the_first_its_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def fsync(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    log = AuditLog(tmp_path / "audit.log")
    log.append("bound", at_ms=NOW, who="w", subject="s")
    log.append("unbound", at_ms=NOW, who="w", subject="s")

    assert seen == ["file", "folder", "file"]


# Heads


@pytest.mark.parametrize("number", range(LINES + 1))
def test_a_noted_head_is_found_wherever_it_is(log: AuditLog, number: int) -> None:
    noted = facts(lines(log)[number - 1])["hash"] if number else ZEROS

    assert verify(log.path, head=noted) == head_of(log.path)


@pytest.mark.parametrize("left", range(LINES))
def test_a_cut_tail_is_a_chain_and_only_a_noted_head_tells(log: AuditLog, left: int) -> None:
    noted = head_of(log.path)
    log.path.write_bytes(b"".join(lines(log)[:left]))

    assert verify(log.path).n == left
    broken_at(log, left + 1, "missing at the end", head=noted.hash)


def test_only_a_noted_head_reveals_a_log_that_was_rewritten(log: AuditLog) -> None:
    noted, prev, forged = head_of(log.path), ZEROS, []
    for line in lines(log):
        forged.append(a_line(**{**facts(line), "who": "somebody else", "prev": prev}))
        prev = facts(forged[-1])["hash"]
    log.path.write_bytes(b"".join(forged))

    assert verify(log.path).n == LINES
    broken_at(log, LINES + 1, "was rewritten", head=noted.hash)


def test_an_alteration_is_told_before_a_missing_head(log: AuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"device-2", b"device-9"))

    broken_at(log, 2, "altered", head="ab" * 32)


def test_a_head_is_not_an_altered_one(log: AuditLog) -> None:
    for noted in ("", "ab" * 32, head_of(log.path).hash[:-1]):
        broken_at(log, LINES + 1, "not in the chain", head=noted)


def test_an_empty_log_has_no_last_line(tmp_path: Path) -> None:
    (tmp_path / "audit.log").touch()

    assert head_of(tmp_path / "audit.log") == verify(tmp_path / "audit.log") == ChainHead(0, ZEROS)


def test_a_log_that_is_gone_is_broken(tmp_path: Path) -> None:
    for look in (head_of, verify):
        with pytest.raises(AuditBroken, match="file not found"):
            look(tmp_path / "audit.log")


# Together

WRITER = """
import sys
from pathlib import Path
from stream.site.audit import AuditLog
log = AuditLog(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    log.append("bound", at_ms=n, who=sys.argv[2], subject="s", note="x" * (n % 400))
"""


@pytest.mark.services
def test_processes_at_once_keep_one_chain(tmp_path: Path) -> None:
    path, each = tmp_path / "audit.log", 100
    AuditLog(path).append("begun", at_ms=0, who="w", subject="s")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"writer-{n}", str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for one in writers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in writers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()

    while any(one.poll() is None for one in writers):
        verify(path)  # a reader sees whole lines, whenever it looks
    for one in writers:
        one.communicate()

    assert [one.returncode for one in writers] == [0, 0, 0]
    assert verify(path).n == 1 + 3 * each
    records = [facts(line) for line in path.read_bytes().splitlines()]
    for n in range(3):
        assert [one["at_ms"] for one in records if one["who"] == f"writer-{n}"] == list(range(each))


def test_threads_at_once_keep_one_chain(log: AuditLog) -> None:
    def write(name: str) -> None:
        for n in range(50):
            log.append("bound", at_ms=n, who=name, subject="s")

    writers = [threading.Thread(target=write, args=(f"thread-{n}",)) for n in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()

    assert verify(log.path).n == LINES + 200


def test_a_line_that_is_just_being_written_is_waited_for(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-10])

    def until_the_writer_is_done(_: int, how: int) -> None:
        if how == fcntl.LOCK_SH:
            log.path.write_bytes(whole)

    monkeypatch.setattr(fcntl, "flock", until_the_writer_is_done)

    assert verify(log.path).n == LINES


def test_verifying_does_not_block_appending_and_stops_at_the_end_that_it_found(log: AuditLog) -> None:
    seen: list[int] = []

    def append(n: int) -> None:
        seen.append(n)
        log.append("bound", at_ms=NOW, who="w", subject="s")

    assert verify(log.path, progress=append).n == LINES
    assert seen == [LINES]
    assert verify(log.path).n == LINES + 1


# Twenty thousand


@pytest.mark.slow
def test_a_long_log_is_verified_in_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    log, reported = AuditLog(tmp_path / "audit.log"), []
    for n in range(20_000):
        log.append("bound", at_ms=n, who="administrator", subject=f"device-{n}", note="x" * 100)
    assert log.path.stat().st_size > 6 << 20

    tracemalloc.start()
    try:
        assert verify(log.path, progress=reported.append).n == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
    assert reported == list(range(audit.PROGRESS_EVERY, 20_001, audit.PROGRESS_EVERY))

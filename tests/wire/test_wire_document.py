"""docs/wire.md says what the code does: the reasons for a refusal, the layouts, the published bytes."""

import re
from pathlib import Path

import pytest

from tests.wire import vectors as v
from wire.envelope import _LENGTHS, HEADER_BYTES, INFO_BYTES, FrameClass, FrameType, Stage
from wire.errors import REASON_CODE, Reason
from wire.receiver import KEPT_TAGS, RateLimits
from wire.sessions import LAST_COUNTER, MAX_AGE_MS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
PRINTED = re.sub(r"\s", "", DOCUMENT)
FLOWING = " ".join(DOCUMENT.split())  # wherever its lines end


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    _, found, after = DOCUMENT.partition(f"\n## {heading}\n")
    assert found, f"no heading {heading!r}"
    table = re.search(r"^\|.*\n\|[-|: ]+\n((?:\|.*\n)+)", after.split("\n## ")[0], flags=re.MULTILINE)
    assert table, f"no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def test_the_document_lists_every_reason_with_its_code_in_order() -> None:
    assert [row[:2] for row in rows("Why a frame is refused")] == [
        [str(REASON_CODE[reason]), f"`{reason}`"] for reason in Reason
    ]


def test_every_reason_is_explained() -> None:
    assert all(all(row) for row in rows("Why a frame is refused"))


def test_the_document_lists_the_stages() -> None:
    assert [row[:2] for row in rows("Acknowledgements")] == [[str(int(one)), f"`{one.name}`"] for one in Stage]


def test_the_document_lists_types_with_their_lengths_and_classes() -> None:
    lengths = {
        kind: f"{shortest}" if shortest == longest else f"{shortest} to {longest:,}"
        for kind, (shortest, longest) in _LENGTHS.items()
    }

    assert [row[:3] for row in rows("Frames")] == [[str(int(kind)), kind.name, lengths[kind]] for kind in FrameType]
    for one in FrameClass:
        assert f"{int(one)} {one.name.lower()}" in FLOWING


@pytest.mark.parametrize(("heading", "size"), [("Header", HEADER_BYTES), ("Session", INFO_BYTES)])
def test_the_fields_of_a_layout_follow_each_other_and_fill_it(heading: str, size: int) -> None:
    at = 0
    for offset, length, *_ in rows(heading):
        assert int(offset) == at
        at += int(length)
    assert at == size


@pytest.mark.parametrize(
    "published",
    [v.SECRET, v.SESSION_FRAME, v.SESSION_ID, v.KEY, v.IV, v.SALT, *v.PAYLOADS[:1], *v.DATA_FRAMES, v.ACK_FRAME],
    ids=["secret", "session", "session id", "key", "iv", "salt", "payload", "frame 0", "frame 1", "acknowledgement"],
)
def test_the_document_prints_the_published_bytes(published: bytes) -> None:
    assert published.hex() in PRINTED


def test_the_document_names_the_identities_of_the_published_bytes() -> None:
    for name in (v.TENANT, v.WEARABLE, v.EDGE, v.BINDING, v.CREDENTIAL, v.PREKEY):
        assert f"`{name.decode()}`" in FLOWING
    assert str(v.AT_MS) in FLOWING
    assert str(v.ACK_AT_MS) in FLOWING


def test_the_document_gives_the_limits_of_the_code() -> None:
    limits = RateLimits()

    assert f"{limits.frames_per_s:.0f} frames a second" in FLOWING
    assert f"burst of {limits.frames_burst:,}" in FLOWING
    assert f"{limits.sessions_per_min:.0f} sessions a minute" in FLOWING
    assert f"{LAST_COUNTER + 1:,} counters" in FLOWING
    assert MAX_AGE_MS == 3_600_000
    assert "an hour" in FLOWING
    assert f"last {KEPT_TAGS} counters" in FLOWING

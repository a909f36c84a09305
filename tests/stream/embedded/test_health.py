"""Why the embedded engine makes no progress."""

import pytest

from stream.embedded.health import trouble_of_stream
from stream.embedded.stream import StreamCounts
from stream.progress import STUCK_MS

NOW = 1_000_000
STUCK = NOW - STUCK_MS - 1


@pytest.mark.parametrize(
    ("turned_ms", "said"),
    [(0, "starting"), (NOW, ""), (STUCK, "frames from edges have not been stored for 15 s")],
)
def test_one_process_alone(turned_ms: int, said: str) -> None:
    assert trouble_of_stream(StreamCounts(turned_ms=turned_ms), NOW) == said

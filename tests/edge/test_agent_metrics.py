"""What an edge says when no reading can be taken."""

import pytest

from edge.agent_metrics import STUCK_MS, EdgeWatch, trouble_of_agent
from edge.counts import AgentCounts
from runtime.clock import ManualClock
from runtime.metrics import Figures

NOW = 1_000_000


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (AgentCounts(), ""),
        (AgentCounts(turned_ms=NOW), ""),  # nobody measures: that is well
        (AgentCounts(turned_ms=NOW - STUCK_MS - 1), "nothing has moved for 15 s"),
        (AgentCounts(turned_ms=NOW, stuck_since_ms=NOW - 4_000),
         "readings cannot be kept for 4 s: is the disk full?"),
    ],
)  # fmt: skip
def test_an_agent(counts: AgentCounts, said: str) -> None:
    assert trouble_of_agent(counts, NOW) == said


def test_an_agent_that_has_not_begun_is_not_ready_and_has_nothing_to_count() -> None:
    watch = EdgeWatch(ManualClock())

    assert watch.trouble() == "it has just been started"
    assert watch.figures() == Figures()

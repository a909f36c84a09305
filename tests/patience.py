"""How long a test waits for what takes a moment: generous, because progress is asserted and not speed."""

from typing import Final

PATIENCE_S: Final = 60.0
"""For one answer, one event or the end of one process, also on a machine whose load is fifty."""

BENCHMARK_S: Final = 600.0
"""For a whole benchmark at its smallest size, which takes seconds on an idle machine."""

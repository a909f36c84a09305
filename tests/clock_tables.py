"""The table of clocks in `docs/safety.md`, made by running the whole way. `python -m tests.clock_tables` writes it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.clocks import ILL_FROM, RIGHT, Told, a_way
from tests.edge.benches import HOUR, MINUTE, SECOND

PAGE: Final = Path(__file__).parents[1] / "docs" / "safety.md"
STEP_AT: Final = ILL_FROM - 2 * MINUTE
_WHERE: Final = {"wearable": "wearable", "edge": "edge", "centre": "data centre"}
_SIZES: Final = {"3 s": 3 * SECOND, "3.5 min": 210 * SECOND, "30 min": 30 * MINUTE, "1 day": 24 * HOUR}
_MARK: Final = "<!-- generated: clocks -->"


def clocks_table() -> str:
    """Every clock, ahead and behind, from the start and stepping: what is judged, and what is said."""
    rows = [
        ["clock", "wrong by", "from", "NEWS2 9, at the edge", "NEWS2 9, in the data centre", "alarm ids", "`no_data`",
         "`clock` at the edge", "`clock` in the data centre"],
        ["---"] * 9,
        *_rows(),
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows() -> Iterator[list[str]]:
    for where, name in _WHERE.items():
        for size, ms in _SIZES.items():
            for sign, side in ((-1, "behind"), (1, "ahead")):
                for start_ms, when in ((0, "the start"), (STEP_AT, "a step")):
                    edge, centre = a_way(**{where: _error(sign * ms, start_ms)})
                    ids = "the same" if edge.ids == centre.ids and len(edge.ids) == len(RIGHT[0].ids) else "OTHER"
                    silent = "none" if not edge.no_data and not centre.no_data else "FALSE"
                    yield [
                        name, f"{size} {side}", when, _sounds(edge, RIGHT[0]), _sounds(centre, RIGHT[1]), ids, silent,
                        _said(edge, start_ms), _said(centre, start_ms),
                    ]  # fmt: skip


def _error(ms: int, start_ms: int) -> Callable[[int], int]:
    return lambda now_ms: ms if now_ms >= start_ms else 0


def _sounds(told: Told, expected: Told) -> str:
    """When the high alarm of NEWS2 came, and how much later than with right clocks."""
    found, known = told.physiological.get(("news2", "")), expected.physiological["news2", ""]
    if found is None or found[0] < known[0]:
        return "NONE"
    return f"high, {(found[1] - known[1]) // SECOND:+d} s"


def _said(told: Told, start_ms: int) -> str:
    if not told.clock:
        return "–"
    return "; ".join(
        f"after {(at_ms - start_ms) // SECOND} s: {re.sub('edge [0-9a-f]{8}', 'edge ID', text)}"
        for at_ms, _, text in told.clock
    )


def with_table(page: str) -> str:
    """The page with its table of clocks made now."""
    table = clocks_table()
    page, found = re.subn(
        re.escape(_MARK) + r"\n.*?<!-- end -->", lambda _: f"{_MARK}\n{table}\n<!-- end -->", page, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{PAGE.name}: {found} places for the table of clocks, there should be one")
    return page


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

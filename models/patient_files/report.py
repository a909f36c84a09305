"""The account of one file: what was read, converted, refused and left out, and which records were not judged.

Every record of a file is judged, abstained from or skipped, and every value of a described column is taken, converted,
missing by a code, or refused: `lines` says so at the end, `as_dict` for programs.
"""

from collections import Counter
from typing import Any, Final

from models.patient_files.columns import Cell, CellOutcome

MOST_NAMED: Final = 20
"""So many places are named for each reason; all are counted."""
_CELLS_SHOWN: Final = 5  # of them in a line about cells


class FileReport:
    """Counts of one file.

    Args:
        source: name of the file.
        noun: what one record is, in the plural.
    """

    def __init__(self, source: str, noun: str = "rows") -> None:
        self.source = source
        self.noun = noun
        self.records = 0
        self.judged = 0
        self.abstained = 0  # judged too: the answer is a reason
        self.merged = 0  # records that were added to an earlier record of the same patient and time
        self.skipped = 0
        self.not_chosen = 0  # stays that the command was not asked for
        self.other = 0  # records of other quantities than the command reads
        self.left_out = 0  # values that were neither taken nor refused by their column, but could not be used
        self.superseded = 0  # values of which a later one, or another column's, of the same moment was used
        self.used = "not used"  # what happens to a refused value,
        self.used_of: dict[str, str] = {}  # to one of a certain column,
        self.unreadable = "not used"  # and to a cell that holds no number
        self._values: Counter[str] = Counter()  # by column, not empty
        self._cells: dict[tuple[str, CellOutcome, str], list[str]] = {}
        self._verbs: dict[tuple[str, CellOutcome, str], str] = {}  # what happened to a refused value
        self._counts: Counter[tuple[str, CellOutcome, str]] = Counter()
        self._skips: dict[str, list[str]] = {}
        self._skip_counts: Counter[str] = Counter()
        self._warnings: dict[str, list[str]] = {}
        self._warning_counts: Counter[str] = Counter()
        self._notes: dict[str, list[str]] = {}  # by place

    def add_values(self, column: str, count: int) -> None:
        """So many cells of a column held something and were taken as they are."""
        self._values[column] += count

    def add_cell(self, column: str, cell: Cell, place: str, shown: object) -> None:
        """A cell was read.

        Args:
            place: row or record, as the user can find it.
            shown: what the cell held.
        """
        if cell.outcome is CellOutcome.EMPTY:
            return
        self._values[column] += 1
        if cell.outcome is CellOutcome.TAKEN:
            return
        key = (column, cell.outcome, cell.why)
        self._counts[key] += 1
        self._verbs.setdefault(key, self.unreadable if cell.raw is None else self.used_of.get(column, self.used))
        if cell.outcome is not CellOutcome.MISSING:
            _name(self._cells, key, f"{place}: {shorten(repr(shown))}")
            self._notes.setdefault(place, []).append(
                f"{column} {shorten(repr(shown))} {cell.outcome.value}: {cell.why}"
            )

    def pop_notes(self, place: str) -> list[str]:
        """What was converted and refused at a place; asked for once."""
        return self._notes.pop(place, [])

    def skip(self, place: str, reason: str) -> None:
        """A record cannot be judged."""
        self.skipped += 1
        self._skip_counts[reason] += 1
        _name(self._skips, reason, place)

    def warn(self, place: str, warning: str) -> None:
        """Something about a record that the user has to know; it was judged."""
        self._warning_counts[warning] += 1
        _name(self._warnings, warning, place)

    def count(self, outcome: CellOutcome, column: str | None = None) -> int:
        """Cells with an outcome, of one column or of all."""
        return sum(
            count
            for (name, one, _), count in self._counts.items()
            if one is outcome and (column is None or name == column)
        )

    @property
    def values(self) -> int:
        """Cells of described columns that held anything."""
        return self._values.total()

    @property
    def status(self) -> int:
        """Exit status: 1 if a record was skipped."""
        return 1 if self.skipped else 0

    def lines(self) -> list[str]:
        """The account in words, without the totals of records."""
        told = [self._cell_line(*key) for key in self._counts]
        told += [
            f"{self._many(count)} not judged: {reason} ({_listed(self._skips[reason], count)})"
            for reason, count in self._skip_counts.items()
        ]
        if self.other:
            told.append(f"{self._many(self.other)} of other quantities, which are not used")
        return told + [
            f"{self._many(count)}: {warning} ({_listed(self._warnings[warning], count)})"
            for warning, count in self._warning_counts.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """The account for programs."""
        return {
            "file": self.source,
            "records": self.records,
            "judged": self.judged,
            "abstained": self.abstained,
            "merged": self.merged,
            "skipped": self.skipped,
            "other": self.other,
            "values": self.values,
            "converted": self.count(CellOutcome.CONVERTED),
            "missing_codes": self.count(CellOutcome.MISSING),
            "refused": self.count(CellOutcome.REFUSED),
            "left_out": self.left_out,
            "superseded": self.superseded,
            "not_chosen": self.not_chosen,
            "columns": [
                {"column": column, "outcome": outcome.value, "reason": why, "count": count,
                 "named": self._cells.get((column, outcome, why), [])}
                for (column, outcome, why), count in self._counts.items()
            ],
            "not_judged": [
                {"reason": reason, "count": count, "named": self._skips[reason]}
                for reason, count in self._skip_counts.items()
            ],
            "warnings": [
                {"warning": warning, "count": count, "named": self._warnings[warning]}
                for warning, count in self._warning_counts.items()
            ],
        }  # fmt: skip

    def _many(self, count: int) -> str:
        return f"{count} {self.noun.removesuffix('s') if count == 1 else self.noun}"

    def _cell_line(self, column: str, outcome: CellOutcome, why: str) -> str:
        count = self._counts[column, outcome, why]
        whole = self._values[column]
        many = f"all {count} values" if count == whole > 1 else f"{count} of {whole} values"
        if outcome is CellOutcome.MISSING:
            return f"column {column}: {many} {why}, read as not measured"
        verb = "converted" if outcome is CellOutcome.CONVERTED else f"{self._verbs[column, outcome, why]}:"
        return (
            f"column {column}: {many} {verb} {why} ({_listed(self._cells[column, outcome, why][:_CELLS_SHOWN], count)})"
        )


def shorten(text: str, limit: int = 60) -> str:
    """A text of at most `limit` characters and three dots."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def _name(places: dict[Any, list[str]], key: object, place: str) -> None:
    named = places.setdefault(key, [])
    if len(named) < MOST_NAMED:
        named.append(place)


def _listed(named: list[str], count: int) -> str:
    more = f"; and {count - len(named)} more" if count > len(named) else ""
    return "; ".join(named) + more

"""What became of every reading of a ward: the conservation summary, for people and as JSON."""

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulators.screen import NOT_A_DEVICE
from vitals.risk import duration


class WardSummary(msgspec.Struct, kw_only=True):
    """The end of a ward. `sent` equals `accepted` equals `stored`, or something was lost or is still on its way."""

    story: str
    patients: int
    judged_by: str
    sent: int  # readings, each once
    accepted: int  # readings that an edge has signed for
    stored: int  # readings in the store
    duplicates: int  # frames that came again and were dropped
    duplicates_stored: int  # readings that are in the store twice
    rejected: int  # frames that were not believed
    rejected_by_reason: dict[str, int]
    refused: int  # readings refused for good: not accepted, not stored
    given_up: int  # readings that full wearables thinned away while no edge listened
    dead_letters: int  # readings that the cloud could not use, kept for people to look at
    alarms: int
    alarms_by_class: dict[str, int]
    local_alarms: int  # times that an edge sounded because the cloud was silent
    seconds_to_first_alarm: float | None  # real seconds since the command began
    simulated_s: float
    real_s: float
    speed_asked: float
    speed: float  # reached
    held_s: float  # real seconds that simulated time stood still because the machine could not keep up
    on_the_way: int = 0  # readings that were neither stored nor refused when the ward ended
    faults: dict[str, int] = {}

    @property
    def is_conserved(self) -> bool:
        """Whether every reading is accounted for, and none twice."""
        return (
            self.sent == self.accepted + self.refused + self.given_up + self.on_the_way_unaccepted
            and self.accepted == self.stored + self.dead_letters
            and not self.duplicates_stored
        )

    @property
    def on_the_way_unaccepted(self) -> int:
        return max(self.sent - self.accepted - self.refused - self.given_up, 0) if self.on_the_way else 0

    def as_json(self) -> str:
        """One line."""
        return msgspec.json.encode(self).decode()

    def as_table(self) -> RenderableType:
        """For the terminal."""
        table = Table.grid(padding=(0, 2))
        for name, value, remark in self._rows():
            table.add_row(name, str(value), Text(remark, style="dim"))
        verdict = (
            Text("every reading is accounted for", style="bold green")
            if self.is_conserved and not self.on_the_way
            else Text(f"{self.on_the_way} readings were still on their way", style="bold yellow")
            if self.is_conserved
            else Text("readings are missing", style="bold red")
        )
        return Group(Text(f"{self.story}, {self.patients} patients", style="bold"), table, verdict, NOT_A_DEVICE)

    def _rows(self) -> list[tuple[str, Any, str]]:
        first = self.seconds_to_first_alarm
        return [
            ("sent", self.sent, "readings, by the wearables"),
            ("accepted", self.accepted, "signed for by an edge, after it had them on disk"),
            ("stored", self.stored, "in the store"),
            ("duplicates dropped", self.duplicates, "frames that came again"),
            ("duplicates stored", self.duplicates_stored, ""),
            ("rejected", self.rejected, _listed(self.rejected_by_reason)),
            *([("refused for good", self.refused, "readings; why stands under rejected")] if self.refused else []),
            *([("given up", self.given_up, "readings, by wearables whose buffers were full")] if self.given_up else []),
            *([("dead letters", self.dead_letters, "readings that the cloud kept aside")] if self.dead_letters else []),
            ("alarms", self.alarms, _listed(self.alarms_by_class)),
            ("first alarm", "none" if first is None else f"{first:.1f} s", "after the start, in real seconds"),
            ("judged by", self.judged_by, ""),
            (
                "speed",
                f"{self.speed:.0f}×",
                f"of at most {self.speed_asked:g}×; {duration(round(self.simulated_s * 1_000))} in {self.real_s:.1f} s",
            ),
            *([("faults", "", _listed(self.faults))] if self.faults else []),
        ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

"""The summary of a ward, which accounts for every reading: as a table and as JSON."""

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulators.ward.screen import NOT_A_DEVICE
from vitals.risk import duration


class WardSummary(msgspec.Struct, kw_only=True):
    """Final figures. `sent` equals `accepted` equals `stored`, unless readings were lost or are still in transit."""

    story: str
    patients: int
    judged_by: str
    sent: int  # readings, each once
    accepted: int  # readings that an edge has acknowledged
    stored: int  # readings in the store
    duplicates: int  # frames that arrived again and were dropped
    duplicates_stored: int  # readings that are in the store twice
    rejected: int  # frames that failed a check
    rejected_by_reason: dict[str, int]
    refused: int  # readings refused permanently: not accepted, not stored
    given_up: int  # readings that wearables with full buffers dropped while no edge was connected
    dead_letters: int  # readings that the data centre could not use, kept for inspection
    alarms: int
    alarms_by_class: dict[str, int]
    local_alarms: int  # alarms that edges sounded because the data centre was silent
    seconds_to_first_alarm: float | None  # real seconds since the command began
    simulated_s: float
    real_s: float
    speed_asked: float
    speed: float  # actual
    held_s: float  # real seconds that simulated time stood still because the machine could not keep up
    messages: dict[str, int] = {}  # that the alarm desk sent, by person
    answered: dict[str, int] = {}  # alarms that people answered, by person
    on_the_way: int = 0  # readings that were neither stored nor refused when the ward ended
    observations: int = 0  # that nurses entered and the alarm desk confirmed, each once
    observations_stored: int = 0  # observations in the store
    observations_refused: dict[str, int] = {}  # that the desk refused, by its reason
    late_rounds: int = 0
    news2: int = 0  # scores
    news2_complete: int = 0  # scores of which no parameter is missing or overdue
    faults: dict[str, int] = {}
    file: dict[str, Any] = {}  # of the file that was replayed, see `models.patient_files.report`
    file_told: tuple[str, ...] = ()  # the same in words

    @property
    def is_conserved(self) -> bool:
        """Whether every reading and every observation is accounted for, and none twice."""
        return (
            self.sent == self.accepted + self.refused + self.given_up + self.on_the_way_unaccepted
            and self.accepted == self.stored + self.dead_letters
            and not self.duplicates_stored
            and self.observations == self.observations_stored
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
            Text(f"every reading is accounted for{self._and_values()}", style="bold green")
            if self.is_conserved and not self.on_the_way
            else Text(f"{self.on_the_way} readings were still in transit when the ward ended", style="bold yellow")
            if self.is_conserved
            else Text("readings are missing", style="bold red")
        )
        told = [Text(f"file: {line}", style="yellow") for line in self.file_told]
        return Group(Text(f"{self.story}, {self.patients} patients", style="bold"), table, *told, verdict, NOT_A_DEVICE)

    def _and_values(self) -> str:
        """What became of the charted values of a replayed file, where it is not that all were sent as they are."""
        counts = {
            name: self.file.get(name, 0) for name in ("converted", "refused", "missing_codes", "left_out", "skipped")
        }
        words = {
            "converted": "charted values converted",
            "refused": "unusable",
            "missing_codes": "codes for not measured",
            "left_out": "left out",
            "skipped": "rows skipped",
        }
        told = [f"{count} {words[name]}" for name, count in counts.items() if count]
        return f"; of the file: {', '.join(told)}" if told else ""

    def _rows(self) -> list[tuple[str, Any, str]]:
        first = self.seconds_to_first_alarm
        took = f"{duration(round(self.simulated_s * 1_000))} in {self.real_s:.1f} s"
        only_if_any = [
            ("refused", self.refused, "permanently; reasons are listed under rejected"),
            ("given up", self.given_up, "by wearables with full buffers"),
            ("dead letters", self.dead_letters, "unusable readings, kept for inspection"),
        ]
        return [
            ("sent", self.sent, "readings sent by wearables"),
            ("accepted", self.accepted, "acknowledged by an edge"),
            ("stored", self.stored, "in the store"),
            ("duplicates dropped", self.duplicates, "frames that arrived again"),
            ("duplicates stored", self.duplicates_stored, ""),
            ("rejected", self.rejected, _listed(self.rejected_by_reason)),
            *(row for row in only_if_any if row[1]),
            *self._rounds(),
            ("alarms", self.alarms, _listed(self.alarms_by_class)),
            ("first alarm", "none" if first is None else f"{first:.1f} s", "after the start, real time"),
            *self._people(),
            ("judged by", self.judged_by, ""),
            ("speed", f"{self.speed:.0f}×", f"of at most {self.speed_asked:g}×; {took}"),
            *([("faults", "", _listed(self.faults))] if self.faults else []),
        ]

    def _rounds(self) -> list[tuple[str, Any, str]]:
        share = f"{100 * self.news2_complete / self.news2:.1f} %" if self.news2 else "none"
        rows: list[tuple[str, Any, str]] = [("complete NEWS2", share, f"of {self.news2} scores")]
        if self.observations or self.observations_refused:
            stored = f"entered by nurses; {self.observations_stored} in the store, {self.late_rounds} rounds late"
            rows.insert(0, ("observations", self.observations, stored))
        if self.observations_refused:
            rows.append(("not entered", sum(self.observations_refused.values()), _listed(self.observations_refused)))
        return rows

    def _people(self) -> list[tuple[str, Any, str]]:
        if not self.messages:
            return []
        return [
            ("messages", sum(self.messages.values()), f"that the alarm desk sent: {_listed(self.messages)}"),
            (
                "answered",
                sum(self.answered.values()),
                f"alarms: {_listed(self.answered)}" if self.answered else "alarms",
            ),
        ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

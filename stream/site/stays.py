"""The stays of a site: one patient under monitoring, from admission to discharge, in one bed at a time.

Devices come and go within a stay (`stream.site.registry` binds them). Who the patient is, the bed and the facts that
decide which scores apply belong to the stay.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stream.errors import RegistryRefused
from stream.site.registry_file import RegistryFile
from wire.identity import NO_DEVICE, NOTHING, About, BindingRecord, is_same_bed

COLUMNS: Final = "patient, bed, from_ms, to_ms, spo2_scale, age_years, is_male, chest_pain, is_pregnant"
"""Of a stay, in the order of `facts_of` and `Stay`."""


class Stay(NamedTuple):
    """One patient under monitoring. Times are milliseconds since 1970."""

    stay_id: bytes
    patient: str  # a pseudonym
    bed: str
    from_ms: int
    to_ms: int | None  # None: it has not ended
    spo2_scale: int
    about: About

    def without_device(self, time_zone: str) -> BindingRecord:
        """A stay on which no device ever was, in the place of a binding: whoever is admitted is watched."""
        return BindingRecord(
            binding_id=self.stay_id,
            patient=self.patient,
            bed=self.bed,
            wearable_id=NO_DEVICE,
            edge_id=NO_DEVICE,
            valid_from_ms=self.from_ms,
            valid_to_ms=self.to_ms,
            spo2_scale=self.spo2_scale,
            about=self.about,
            time_zone=time_zone,
        )


class Stays:
    """The table of stays. What changes it belongs into a transaction of the caller."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def get(self, stay_id: bytes) -> Stay | None:
        """A stay; None: not known."""
        found = self._select("WHERE stay_id = ?", stay_id.hex())
        return found[0] if found else None

    def open_one(self, stay_id: bytes) -> Stay:
        """A stay that has not ended. Raises RegistryRefused: there is no such one."""
        found = self.get(stay_id)
        if found is None or found.to_ms is not None:
            raise RegistryRefused(f"stay {stay_id.hex()}: there is no such open stay; see `vitalloom registry stays`")
        return found

    def open(self) -> list[Stay]:
        """The stays that have not ended, the oldest first."""
        return self._select("WHERE to_ms IS NULL ORDER BY from_ms, stay_id")

    def open_of(self, patient: str) -> list[Stay]:
        """The open stays of a patient: none or one, or more in a registry of an earlier version, or a restored one."""
        return self._select("WHERE to_ms IS NULL AND patient = ? ORDER BY from_ms, stay_id", patient)

    def current(self, after_ms: int) -> list[Stay]:
        """The stays that are open or ended after a moment, the oldest first."""
        return self._select("WHERE to_ms IS NULL OR to_ms > ? ORDER BY from_ms, stay_id", after_ms)

    def the_open_one_of(self, patient: str) -> Stay | None:
        """The open stay of a patient; None: there is none.

        Raises:
            RegistryRefused: there are two, and only a person knows which is the true one.
        """
        found = self.open_of(patient)
        if len(found) > 1:
            named = " and ".join(f"{one.stay_id.hex()[:12]} (bed {one.bed})" for one in found)
            raise RegistryRefused(
                f"this patient has {len(found)} open stays, {named}: end the one that is not true, and its alarms, "
                f"with `vitalloom registry discharge {found[0].stay_id.hex()[:12]}` or `vitalloom registry discharge "
                f"{found[-1].stay_id.hex()[:12]}`, and bind its devices again if they are worn"
            )
        return found[0] if found else None

    def find_open(self, text: str) -> Stay:
        """An open stay by its patient, its id or the beginning of its id.

        Raises:
            RegistryRefused: there is none, or more than one.
        """
        text = checked_patient(text)
        if self.open_of(text) and (found := self.the_open_one_of(text)) is not None:
            return found
        begins = text.lower().rstrip("…")
        if begins and all(one in "0123456789abcdef" for one in begins):
            by_id = self._select("WHERE to_ms IS NULL AND stay_id >= ? AND stay_id < ?", begins, begins + "g")
            if len(by_id) == 1:
                return by_id[0]
            if by_id:
                raise RegistryRefused(f"{text[:40]}: {len(by_id)} open stays begin so; give more digits of the id")
        raise RegistryRefused(f"{text}: no open stay of this patient or id; `vitalloom registry stays` lists them")

    def admit(self, stay_id: bytes, *, patient: str, bed: str, from_ms: int, spo2_scale: int, about: About) -> None:
        """Begin a stay.

        Raises:
            RegistryRefused: the patient has an open one, another patient is in this bed, or a value cannot be true.
        """
        check_scale(spo2_scale)
        check_about(about)
        if (known := self.the_open_one_of(patient)) is not None:
            raise RegistryRefused(
                f"this patient is admitted already, in bed {known.bed} (stay {known.stay_id.hex()[:12]}): bind devices "
                "with `vitalloom registry bind`, or end that stay first with `vitalloom registry discharge`"
            )
        self.check_bed(patient, bed)
        self._file.execute(
            f"INSERT INTO stay (stay_id, {COLUMNS}) VALUES (?, ?, ?, ?, NULL, ?, ?, ?, ?, ?)",  # noqa: S608 - names from code
            (
                stay_id.hex(),
                patient,
                printable("bed", bed, 32),
                from_ms,
                spo2_scale,
                about.age_years,
                about.is_male,
                about.chest_pain,
                about.is_pregnant,
            ),
        )

    def end(self, stay_id: bytes, at_ms: int) -> None:
        """End a stay; one that has ended stays as it is."""
        self._file.execute("UPDATE stay SET to_ms = ? WHERE stay_id = ? AND to_ms IS NULL", (at_ms, stay_id.hex()))

    def move(self, stay: Stay, bed: str) -> None:
        """Put the patient into another bed. Raises RegistryRefused: another patient is in it."""
        self.check_bed(stay.patient, bed)
        self._file.execute("UPDATE stay SET bed = ? WHERE stay_id = ?", (printable("bed", bed, 32), stay.stay_id.hex()))

    def state(self, stay: Stay, about: About, spo2_scale: int | None) -> None:
        """Replace the facts that are given, and the scale; what is None stays. Raises RegistryRefused."""
        merged = merged_facts(stay.about, about)
        check_about(merged)
        scale = stay.spo2_scale if spo2_scale is None else spo2_scale
        check_scale(scale)
        self._file.execute(
            "UPDATE stay SET spo2_scale = ?, age_years = ?, is_male = ?, chest_pain = ?, is_pregnant = ? "
            "WHERE stay_id = ?",
            (
                scale,
                merged.age_years,
                merged.is_male,
                merged.chest_pain,
                merged.is_pregnant,
                stay.stay_id.hex(),
            ),
        )

    def check_bed(self, patient: str, bed: str) -> None:
        """A bed has one patient. Who is in it may have moved or gone home: only a person knows, so nothing is ended.

        Raises:
            RegistryRefused: another patient is in it.
        """
        for one in self.open():
            if is_same_bed(one.bed, bed) and one.patient != patient:
                name = one.stay_id.hex()
                raise RegistryRefused(
                    f"bed {bed} has another patient (stay {name}): if that patient has left, run `vitalloom registry "
                    f"discharge {name}` first, which ends the alarms of that patient; if that patient is in another "
                    f"bed now, run `vitalloom registry move {name} --bed BED`"
                )

    def _select(self, where: str, *values: Any) -> list[Stay]:
        rows = self._file.execute(f"SELECT stay_id, {COLUMNS} FROM stay {where}", values)  # noqa: S608 - names from code
        return [
            Stay(bytes.fromhex(name), patient, bed, from_ms, to_ms, scale, facts_of(facts))
            for name, patient, bed, from_ms, to_ms, scale, *facts in rows
        ]


def facts_of(row: Sequence[Any]) -> About:
    """Facts about a patient from the columns age, sex, chest pain, pregnancy."""
    age_years, is_male, chest_pain, is_pregnant = row
    return About(
        age_years=age_years,
        is_male=None if is_male is None else bool(is_male),
        chest_pain=chest_pain,
        is_pregnant=None if is_pregnant is None else bool(is_pregnant),
    )


def merged_facts(known: About, stated: About) -> About:
    """What is known, replaced by what is stated; None states nothing."""
    told = {name: value for name, value in msgspec.structs.asdict(stated).items() if value is not None}
    return msgspec.structs.replace(known, **told)


def check_joins(stay: Stay, *, bed: str | None, spo2_scale: int | None, about: About = NOTHING) -> None:
    """Whether what is stated with a further device is true of the stay; what the stay does not know may be stated.

    Raises:
        RegistryRefused: with the command that corrects it.
    """
    name = stay.stay_id.hex()[:12]
    if bed is not None and bed.strip() != stay.bed.strip() and not is_same_bed(bed, stay.bed):
        raise RegistryRefused(
            f"this patient is in bed {stay.bed}, not {bed} (stay {name}): leave out --bed, or run `vitalloom registry "
            f"move {name} --bed BED` first"
        )
    wrong = [
        f"{field} is {known:g}" if isinstance(known, float) else f"{field} is {known}"
        for field, known in msgspec.structs.asdict(stay.about).items()
        if known is not None and (told := getattr(about, field)) is not None and told != known
    ]
    if spo2_scale is not None and spo2_scale != stay.spo2_scale:
        wrong.append(f"spo2_scale is {stay.spo2_scale}")
    if wrong:
        raise RegistryRefused(
            f"this patient's stay {name} says otherwise ({', '.join(wrong)}): leave that option out, or correct the "
            f"stay with `vitalloom registry facts {name}`"
        )


def check_scale(spo2_scale: int) -> None:
    """Raises RegistryRefused."""
    if spo2_scale not in (1, 2):
        raise RegistryRefused("spo2_scale is 1, or 2 for patients with a lower oxygen saturation target")


def check_about(about: About) -> None:
    """Raises RegistryRefused."""
    if problem := about.problem():
        raise RegistryRefused(problem)


def checked_patient(text: str) -> str:
    """A pseudonym as the registry keeps it: spaces around it are no other patient. Raises RegistryRefused."""
    if not text.strip(" "):
        raise RegistryRefused("patient: give the pseudonym by which this patient is known")
    return printable("patient", text.strip(" "), 64)


def printable(key: str, text: str, most: int) -> str:
    """The text. Raises RegistryRefused: it is too long, or has characters that cannot be shown."""
    if len(text) > most or not all(one.isprintable() for one in text):
        raise RegistryRefused(f"{key}: at most {most} printable characters")
    return text

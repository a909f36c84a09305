"""Whom the scores are for: adults. NEWS2, qSOFA, SIRS, MEWS, the shock index and the models are not for others.

Source: RCP 2017: NEWS2 should not be used in children (under 16 years) or women who are pregnant, because their
physiology differs. The other scores and the models were made from adults as well.
"""

from enum import IntEnum
from typing import Final, Protocol

ADULT_FROM_YEARS: Final = 16


class PatientGroup(IntEnum):
    """What was stated of a patient when the binding was made. The numbers are stored: they never change."""

    UNSTATED = 0  # nothing was asked, or the answer is not known: scored as an adult
    ADULT = 1
    CHILD = 2  # under 16
    PREGNANT = 3

    @property
    def has_adult_scores(self) -> bool:
        return self in (PatientGroup.UNSTATED, PatientGroup.ADULT)

    @property
    def word(self) -> str:
        """The group in a narrow column; empty for adults.

        >>> PatientGroup.CHILD.word
        'under 16'
        """
        return _WORDS.get(self, "")

    @property
    def short_note(self) -> str:
        """What the text of an alarm says of a patient who has no adult score; empty for adults.

        >>> PatientGroup.CHILD.short_note
        'under 16, no adult score'
        """
        return f"{self.word}, no adult score" if self.word else ""

    @property
    def note(self) -> str:
        """What a screen says of a patient who has no adult score; empty for adults.

        >>> PatientGroup.PREGNANT.note
        'pregnant: no NEWS2, no other adult score, no model; alarms on dangerous single values and missing data only'
        """
        word = self.word
        return f"{word}: {_NO_SCORE}" if word else ""


_WORDS: Final = {PatientGroup.CHILD: "under 16", PatientGroup.PREGNANT: "pregnant"}
_NO_SCORE: Final = "no NEWS2, no other adult score, no model; alarms on dangerous single values and missing data only"


class Stated(Protocol):
    """What was stated of a patient. None: not known."""

    @property
    def age_years(self) -> float | None: ...
    @property
    def is_male(self) -> bool | None: ...
    @property
    def is_pregnant(self) -> bool | None: ...


def group_of(about: Stated) -> PatientGroup:
    """The group of a patient from what was stated."""
    if about.age_years is not None and about.age_years < ADULT_FROM_YEARS:
        return PatientGroup.CHILD
    if about.is_pregnant:
        return PatientGroup.PREGNANT
    is_known = about.age_years is not None and (about.is_pregnant is False or about.is_male is True)
    return PatientGroup.ADULT if is_known else PatientGroup.UNSTATED

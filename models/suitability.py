"""For whom the released models and NEWS2 are: not for children."""

from typing import Final

ADULT_FROM: Final = 16
"""Years. NEWS2 is for this age and above (RCP 2017); nearly all patients of the training data are older."""


def too_young(age_years: float | None) -> str | None:
    """The reason for which a model abstains; None: the patient is old enough, or the age is not known."""
    if age_years is None or not age_years < ADULT_FROM:
        return None
    return f"under {ADULT_FROM} years: the model is for adults"

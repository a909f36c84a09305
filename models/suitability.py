"""For whom the released models and NEWS2 are: not for children."""

from vitals.patient_group import ADULT_FROM_YEARS


def too_young(age_years: float | None) -> str | None:
    """The reason for which a model abstains; None: the patient is old enough, or the age is not known."""
    if age_years is None or not age_years < ADULT_FROM_YEARS:
        return None
    return f"under {ADULT_FROM_YEARS} years: the model is for adults"

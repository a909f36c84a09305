"""The errors that the kernel raises."""


class VitalsError(Exception):
    """Base of every error that the kernel raises."""


class UnknownSign(VitalsError):
    """A vital sign that is not in the table of `vitals.signs`."""

    def __init__(self, name: str, *, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown vital sign {name!r}; known are {', '.join(known)}")
        self.name = name
        self.known = known


class BadPlan(VitalsError):
    """A monitoring plan, a rule or an escalation policy that is invalid."""


class BadSnapshot(VitalsError):
    """A stored patient state that this version cannot read."""

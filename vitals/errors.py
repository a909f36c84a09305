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


class BadOrders(VitalsError):
    """Orders, or a file of orders, that are invalid or cannot be read.

    Attributes:
        file: the file; empty: not known, or not from a file.
        key: the key in it, such as `rule.low_spo2.medium`; empty: none.
    """

    def __init__(self, problem: str, *, file: str = "", key: str = "") -> None:
        super().__init__(": ".join(part for part in (file, key, problem) if part))
        self.problem = problem
        self.file = file
        self.key = key


class BadSnapshot(VitalsError):
    """A stored patient state that this version cannot read."""


class BadEntry(VitalsError):
    """A value that a person typed and that cannot be right; the message says what to type."""

"""Everything that can go wrong with models, on one screen."""


class ModelsError(Exception):
    """Base of every error of this room."""


class StepOutOfOrder(ModelsError):
    """A step that is not later than the one before it."""

    def __init__(self, at_ms: int, last_ms: int) -> None:
        super().__init__(f"a step at {at_ms} ms after one at {last_ms} ms: steps of a patient rise in time")


class NoSuchAttribute(ModelsError):
    """A name that is no attribute of a patient."""

    def __init__(self, name: str, *, known: tuple[str, ...]) -> None:
        super().__init__(f"{name[:40]!r} is no attribute; known are {', '.join(known)}")
        self.name = name


class BadSearch(ModelsError):
    """A search that cannot begin."""

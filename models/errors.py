"""Everything that can go wrong with models, on one screen."""


class ModelsError(Exception):
    """Base of every error of this room."""


class StepOutOfOrder(ModelsError):
    """A step that is not later than the one before it."""

    def __init__(self, at_ms: int, last_ms: int) -> None:
        super().__init__(f"a step at {at_ms} ms after one at {last_ms} ms: steps of a patient rise in time")

"""Progress of training, for progress bars."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Step(NamedTuple):
    """Progress of the training of one net."""

    done: int
    of: int
    loss: float


OnStep: TypeAlias = Callable[[Step], None]

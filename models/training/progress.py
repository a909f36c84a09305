"""How far learning is, for whoever waits."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Step(NamedTuple):
    """How far learning is."""

    done: int
    of: int
    loss: float


Tell: TypeAlias = Callable[[Step], None]

"""Errors of simulated and recorded patients, of their broker and of the ward."""

from collections.abc import Iterable


class SimulatorError(Exception):
    """Base of every error that this room raises."""


class UnknownScenario(SimulatorError):
    """A scenario that is not in the table of `simulators.scenarios`."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"unknown scenario {name!r}; known are {', '.join(self.known)}")


class TimeRanBackwards(SimulatorError):
    """A simulated patient was asked to go back in time; make a new one with the same seed instead."""

    def __init__(self, *, at_ms: int, asked_ms: int) -> None:
        super().__init__(
            f"simulated time is {at_ms} ms and cannot go back to {asked_ms} ms; "
            "start again with the same seed to see an earlier moment"
        )
        self.at_ms = at_ms
        self.asked_ms = asked_ms


class BadFault(SimulatorError):
    """A fault specification that cannot be followed."""

    def __init__(self, problem: str, *, key: str, known: Iterable[str]) -> None:
        self.key = key
        self.known = tuple(known)
        super().__init__(f"fault {key!r}: {problem}; known are {', '.join(self.known)}")


class BadWaveform(SimulatorError):
    """A waveform that cannot be drawn as asked."""


class BrokerFailed(SimulatorError):
    """The broker of a ward is not installed, did not start or has ended."""


class BadWard(SimulatorError):
    """A ward that cannot be run as asked; the message names the option and the fix."""

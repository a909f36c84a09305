"""Windows, timers and the pace of a sender: how much may be under way, and when a row is sent again."""

from heapq import heappop, heappush
from random import Random

from wire.sending.rows import SendLane
from wire.sending.sessions import Flight
from wire.sending.settings import Timing


class FlightWindow:
    """Rows of one lane that are in flight: how many may be, and when each is due to be sent again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_flight = 0
        self.from_backlog = 0
        self._timers: list[tuple[int, int, Flight]] = []
        self._tie = 0

    def add(self, flight: Flight) -> None:
        """A row has left for the first time."""
        self.in_flight += 1
        self.from_backlog += flight.from_backlog

    def remove(self, flight: Flight) -> None:
        """A row is acknowledged or given up."""
        flight.alive = False
        self.in_flight -= 1
        self.from_backlog -= flight.from_backlog

    def schedule(self, flight: Flight, due_ms: int) -> None:
        """Send a row again at this monotonic moment, unless it is acknowledged before."""
        flight.due_ms = due_ms
        self._tie += 1
        heappush(self._timers, (due_ms, self._tie, flight))

    def first_due(self) -> int | None:
        """When the first row is to be sent again."""
        while self._timers:
            due_ms, _, flight = self._timers[0]
            if flight.alive and flight.due_ms == due_ms:
                return due_ms
            heappop(self._timers)  # acknowledged, or rescheduled
        return None

    def overdue(self, mono_ms: int) -> Flight | None:
        """The row whose timer ran out first."""
        due_ms = self.first_due()
        return self._timers[0][2] if due_ms is not None and due_ms <= mono_ms else None


class ResendDelays:
    """How long to wait for an acknowledgement; learns how long they usually take."""

    def __init__(self, timing: Timing, rng: Random) -> None:
        self._timing = timing
        self._rng = rng
        self._usual_ms = 0.0  # from sending a row of vital signs to its acknowledgement, a moving average

    def after(self, lane: SendLane, attempts: int) -> int:
        """Milliseconds until a row that was sent so often before is sent again."""
        timing = self._timing
        if lane is SendLane.ALARM:
            wait = min(timing.alarm_first_ms * timing.alarm_factor ** min(attempts, 64), timing.alarm_max_ms)
        else:
            wait = timing.vitals_first_ms * timing.vitals_factor ** min(attempts, 64)
            wait = min(max(wait, 2 * self._usual_ms), timing.vitals_max_ms)
        return int(wait * self._rng.uniform(1 - timing.jitter, 1 + timing.jitter))

    def shortest_first(self, lane: SendLane) -> float:
        """The shortest first wait that `after` gives."""
        first_ms = self._timing.alarm_first_ms if lane is SendLane.ALARM else self._timing.vitals_first_ms
        return first_ms * (1 - self._timing.jitter)

    def learn(self, took_ms: int) -> None:
        """An acknowledgement of vital signs came so long after the first departure of a row."""
        self._usual_ms += (took_ms - self._usual_ms) / 8


class Pace:
    """A limit on frames per second, of which the backlog gets a share. Without a limit everything is allowed."""

    def __init__(self, frames_per_s: float, burst: int, backlog_share: float) -> None:
        self.frames_per_s = frames_per_s
        self._burst = float(burst)
        self._share = backlog_share
        self._tokens = self._burst
        self._backlog = self._burst * backlog_share
        self._at_ms: int | None = None

    def allows(self, mono_ms: int) -> bool:
        """Whether a frame may leave now."""
        if not self.frames_per_s:
            return True
        if self._at_ms is not None:
            earned = (mono_ms - self._at_ms) / 1_000 * self.frames_per_s
            self._tokens = min(self._burst, self._tokens + earned)
            self._backlog = min(self._burst * self._share, self._backlog + earned * self._share)
        self._at_ms = mono_ms
        return self._tokens >= 1

    def allows_backlog(self, mono_ms: int) -> bool:
        """Whether a frame of the backlog may leave now."""
        return self.allows(mono_ms) and (not self.frames_per_s or self._backlog >= 1)

    def spend(self, *, backlog: bool) -> None:
        """A frame has left."""
        self._tokens -= 1
        self._backlog -= backlog

    def pause_ms(self) -> int:
        """Until the next frame is allowed."""
        return 0 if not self.frames_per_s else max(1, int(1_000 / self.frames_per_s))

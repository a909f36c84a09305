"""Settings of a sender: sizes of windows, and how long to wait for an acknowledgement."""

import msgspec


class Windows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may be under way without an acknowledgement."""

    vitals: int = 256
    alarms: int = 64
    live: int = 12  # newest readings of a patient that go before the backlog; a minute at one every five seconds
    backlog_share: float = 0.7  # of the vitals window and of the rate: the rest is kept for what happens now
    frames_per_s: float = 0.0  # upper limit of what is sent; 0: none but the windows
    burst: int = 1_000  # frames that may leave at once under that limit


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for an acknowledgement before a frame is sent again; monotonic milliseconds.

    Vital signs wait at least twice as long as acknowledgements currently take: sending again to a slow receiver makes
    it slower. Alarms do not wait for that.
    """

    alarm_first_ms: int = 2_000
    alarm_factor: float = 2.0
    alarm_max_ms: int = 15_000
    vitals_first_ms: int = 10_000
    vitals_factor: float = 1.6
    vitals_max_ms: int = 300_000
    jitter: float = 0.2  # share of the wait, to either side

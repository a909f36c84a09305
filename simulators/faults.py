"""A bad link: frames lost, doubled, late, out of order or damaged, by a seeded generator and a specification.

Pure: no socket, no clock. Its owner puts frames in with `put` and gets those that have arrived from `due`.
"""

import heapq
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from simulators.errors import BadFault


class FaultSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of a link and of a device's clock; the defaults are no faults."""

    loss: float = 0.0  # share of frames that never arrive
    duplicate: float = 0.0  # share that arrives twice
    reorder: float = 0.0  # share that is held back by up to `reorder_ms`, so that later ones overtake it
    corrupt: float = 0.0  # share with one flipped bit
    delay_ms: int = 0  # every frame
    jitter_ms: int = 0  # up to this much more, evenly
    reorder_ms: int = 1_000
    cut_from_ms: int | None = None  # one-way cut: nothing passes from then ...
    cut_to_ms: int | None = None  # ... to then, counted from the link's start
    skew_ms: int = 0  # how far the device's clock is ahead; negative: behind

    @classmethod
    def parse(cls, text: str) -> "FaultSpec":
        """Read `loss=5%,duplicate=2%,reorder=2%,delay=50ms`; keys and forms are in `KEYS`.

        Raises:
            BadFault: an unknown or repeated key or a value of the wrong form; the message names the key.
        """
        found: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key not in _READ:
                raise BadFault("no such fault", key=key, known=KEYS)
            if not equals or not value:
                raise BadFault(f"needs a value, as in {KEYS[key]}", key=key, known=KEYS)
            fields = _READ[key](key, value)
            if found.keys() & fields.keys():
                raise BadFault("given twice", key=key, known=KEYS)
            found |= fields
        return cls(**found)

    def clock_ms(self, now_ms: int) -> int:
        """The time that a device with this fault reads from its clock."""
        return now_ms + self.skew_ms


KEYS: Final[Mapping[str, str]] = {
    "loss": "loss=5%",
    "duplicate": "duplicate=2%",
    "reorder": "reorder=2%",
    "corrupt": "corrupt=0.1%",
    "delay": "delay=50ms",
    "jitter": "jitter=20ms",
    "cut": "cut=10s-40s",
    "skew": "skew=-1h",
}
"""Every fault, each with an example."""


class FaultCounts(msgspec.Struct):
    """How often each fault was injected."""

    passed: int = 0  # frames put in
    delivered: int = 0  # frames taken out, doubles included
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    cut: int = 0
    delayed: int = 0


class LossyLink:
    """One direction of one link.

    Args:
        rng: each frame takes the same number of draws whatever happens to it, so that changing one share does not
            change which frames the other faults meet.
        spec: what to do.
        start_mono_ms: the link's start, from which the times of a cut count.
    """

    def __init__(self, rng: random.Random, spec: FaultSpec, *, start_mono_ms: int = 0) -> None:
        self.spec = spec
        self.start_mono_ms = start_mono_ms
        self.counts = FaultCounts()
        self._rng = rng
        self._travelling: list[tuple[int, int, bytes]] = []
        self._next = 0

    def put(self, frame: bytes, mono_ms: int) -> list[tuple[int, bytes]]:
        """Put a frame in at `mono_ms`. Returns when and in which form `due` will return it: never, once or twice.

        The link delivers the frame by `due` only; the return value is for information.
        """
        spec, counts = self.spec, self.counts
        lose, double, hold, damage, where, wait, later, apart = (self._rng.random() for _ in range(8))
        counts.passed += 1
        if self._is_cut(mono_ms - self.start_mono_ms):
            counts.cut += 1
            return []
        if lose < spec.loss:
            counts.lost += 1
            return []
        due_ms = mono_ms + spec.delay_ms + round(wait * spec.jitter_ms)
        if due_ms > mono_ms:
            counts.delayed += 1
        if hold < spec.reorder:
            counts.reordered += 1
            due_ms += 1 + round(later * spec.reorder_ms)
        if damage < spec.corrupt and frame:
            counts.corrupted += 1
            frame = _with_flipped_bit(frame, int(where * len(frame) * 8))
        coming = [(due_ms, frame)]
        if double < spec.duplicate:
            counts.duplicated += 1
            coming.append((due_ms + round(apart * spec.reorder_ms), frame))
        for when, what in coming:
            heapq.heappush(self._travelling, (when, self._next, what))
            self._next += 1
        return coming

    def due(self, mono_ms: int) -> list[bytes]:
        """Remove and return the frames that have arrived by `mono_ms`, in order of arrival."""
        arrived = []
        while self._travelling and self._travelling[0][0] <= mono_ms:
            arrived.append(heapq.heappop(self._travelling)[2])
        self.counts.delivered += len(arrived)
        return arrived

    def next_due(self) -> int | None:
        """When the next frame arrives; `None`: the link is empty."""
        return self._travelling[0][0] if self._travelling else None

    def __len__(self) -> int:
        """Frames in transit."""
        return len(self._travelling)

    def _is_cut(self, elapsed_ms: int) -> bool:
        start, end = self.spec.cut_from_ms, self.spec.cut_to_ms
        return start is not None and start <= elapsed_ms and (end is None or elapsed_ms < end)


def _with_flipped_bit(frame: bytes, bit: int) -> bytes:
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_TIME: Final = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(ms|s|m|h)")


def _share(key: str, value: str) -> dict[str, Any]:
    number, percent, rest = value.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise BadFault(f"{value!r} is not a share between 0% and 100%, as in {KEYS[key]}", key=key, known=KEYS)
    return {key: share}


def _milliseconds(key: str, value: str, *, signed: bool = False) -> int:
    match = _TIME.fullmatch(value)
    if match is None or (match[1] and not signed):
        raise BadFault(f"{value!r} is not a time in ms, s, m or h, as in {KEYS[key]}", key=key, known=KEYS)
    size = round(float(match[2]) * _UNIT_MS[match[3]])
    return -size if match[1] == "-" else size


def _time(key: str, value: str) -> dict[str, Any]:
    return {f"{key}_ms": _milliseconds(key, value)}


def _skew(key: str, value: str) -> dict[str, Any]:
    return {"skew_ms": _milliseconds(key, value, signed=True)}


def _cut(key: str, value: str) -> dict[str, Any]:
    start, dash, end = value.partition("-")
    from_ms = _milliseconds(key, start)
    if not dash:
        return {"cut_from_ms": from_ms, "cut_to_ms": None}
    to_ms = _milliseconds(key, end)
    if to_ms <= from_ms:
        raise BadFault(f"{value!r} ends before it begins, unlike {KEYS[key]}", key=key, known=KEYS)
    return {"cut_from_ms": from_ms, "cut_to_ms": to_ms}


_READ: Final[Mapping[str, Callable[[str, str], dict[str, Any]]]] = {
    "loss": _share,
    "duplicate": _share,
    "reorder": _share,
    "corrupt": _share,
    "delay": _time,
    "jitter": _time,
    "cut": _cut,
    "skew": _skew,
}

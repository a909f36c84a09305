"""Who judges is told of a binding when it begins and ends, and again now and then, until it is known durably."""

from itertools import pairwise

from vitals.messages import BindingPeriod
from wire.binding_periods import FIRST_AGAIN_MS, LOOK_EVERY_MS, TELL_AGAIN_MS, BindingPeriods
from wire.identity import BindingRecord, InMemoryDirectory

NOW = 1_767_600_000_000
EDGE = b"e" * 16


def a_binding(to_ms: int | None = None) -> BindingRecord:
    return BindingRecord(
        binding_id=b"b" * 16,
        patient="P0001",
        bed="4",
        wearable_id=b"w" * 16,
        edge_id=EDGE,
        valid_from_ms=NOW,
        valid_to_ms=to_ms,
    )


class Listener:
    """A place that judges, and its monotonic time."""

    def __init__(self, *bindings: BindingRecord) -> None:
        self.directory = InMemoryDirectory([], bindings)
        self.periods = BindingPeriods(self.directory)
        self.mono_ms = 0

    def hears(self, after_ms: int = LOOK_EVERY_MS, *, durably: bool = True) -> list[BindingPeriod]:
        self.mono_ms += after_ms
        found = self.periods.due(NOW + self.mono_ms, self.mono_ms, edge_heard_ms={EDGE: NOW}.get)
        if durably:
            self.periods.told(found, self.mono_ms)
        return found


def test_a_binding_is_told_once_and_again_when_it_ends() -> None:
    place = Listener(a_binding())

    (first,) = place.hears()
    quiet = place.hears()
    place.directory.put(a_binding(NOW + 5_000))
    (ended,) = place.hears()

    assert (first.from_ms, first.to_ms, first.heard_ms, first.edge_heard_ms) == (NOW, None, NOW + 1_000, NOW)
    assert quiet == []
    assert (ended.to_ms, ended.heard_ms) == (NOW + 5_000, NOW + 3_000)


def test_what_did_not_become_durable_is_told_again() -> None:
    place = Listener(a_binding())

    assert len(place.hears(durably=False)) == 1
    assert len(place.hears()) == 1
    assert place.hears() == []


def test_all_are_told_again_a_minute_after_the_start_and_then_every_five() -> None:
    place = Listener(a_binding())
    place.hears()

    told_at = []
    while place.mono_ms < 15 * 60_000:
        if place.hears():
            told_at.append(place.mono_ms)

    assert told_at[0] == 1_000 + FIRST_AGAIN_MS
    assert [later - earlier for earlier, later in pairwise(told_at)] == [TELL_AGAIN_MS] * 2


def test_it_looks_at_most_once_a_second() -> None:
    place = Listener()
    place.hears()
    place.directory.put(a_binding())

    assert place.hears(LOOK_EVERY_MS - 1) == []
    assert len(place.hears(1)) == 1


# Several devices of one stay


def of_stay(name: bytes, *, from_ms: int = NOW, to_ms: int | None = None, goes_on: bool = False) -> BindingRecord:
    return BindingRecord(
        binding_id=name * 16,
        patient="P0001",
        bed="4",
        wearable_id=name * 16,
        edge_id=EDGE,
        valid_from_ms=from_ms,
        valid_to_ms=to_ms,
        stay_id=b"1" * 16,
        stay_goes_on=goes_on,
        device_name=name.decode(),
    )


def test_a_device_that_joins_is_told_with_its_stay_and_name() -> None:
    place = Listener(of_stay(b"1"))
    (first,) = place.hears()
    place.directory.put(of_stay(b"2"))

    (second,) = place.hears()

    assert (first.stay_id, first.binding_id, first.device_name) == ((b"1" * 16).hex(), "", "1")
    assert (second.stay_id, second.binding_id, second.device) == (first.stay_id, (b"2" * 16).hex(), (b"2" * 16).hex())


def test_the_end_of_the_stay_is_told_though_its_device_left_before() -> None:
    place = Listener(of_stay(b"1", to_ms=NOW + 1, goes_on=True))
    assert [one.stay_goes_on for one in place.hears()] == [True]

    place.directory.put(of_stay(b"1", to_ms=NOW + 1))

    assert [(one.to_ms, one.stay_goes_on) for one in place.hears()] == [(NOW + 1, False)]


def test_what_has_ended_within_a_stay_that_goes_on_is_told_once() -> None:
    used = [of_stay(bytes([65 + n]), from_ms=NOW + n, to_ms=NOW + n + 1, goes_on=True) for n in range(20)]
    place = Listener(of_stay(b"1"), *used)
    assert len(place.hears()) == 21

    again = [one.device for one in place.hears(FIRST_AGAIN_MS)]
    place.directory.put(of_stay(b"1", to_ms=NOW + 2, goes_on=True))
    ended = [one.device for one in place.hears()]
    later = [one.device for one in place.hears(TELL_AGAIN_MS)]

    assert again == [(b"1" * 16).hex()]
    assert ended == [(b"1" * 16).hex()]
    assert later == [used[-1].binding_id.hex()]  # of a stay without a device the newest

"""Timers of a partition run on the time of ingest, whatever the worker's clock says."""

import pytest

from stream.engine.partition_time import PartitionTime
from vitals.sender_clock import BOUND_MS, FIRST_CONTACT_MS

NOW, SECOND, HOUR = 1_767_600_000_000, 1_000, 3_600_000


@pytest.mark.parametrize("behind_ms", [-24 * HOUR, -HOUR, -10 * SECOND, 10 * SECOND, HOUR, 24 * HOUR])
def test_live_arrivals_tell_the_time_of_ingest(behind_ms: int) -> None:
    time = PartitionTime(bound_ms=BOUND_MS)
    for k in range(4):
        now_ms = NOW + 5 * SECOND * k
        assert k in (0, 3) or behind_ms < 0 or time.now_ms(now_ms) is None  # no timer before it is known
        time.heard(now_ms - behind_ms, now_ms)

    assert time.now_ms(NOW + HOUR) == NOW + HOUR - behind_ms
    assert time.behind_ms == behind_ms


def test_records_that_waited_in_kafka_do_not_set_time_back() -> None:
    time = PartitionTime(bound_ms=BOUND_MS)
    for k in range(700):  # an hour of readings is read in seven seconds
        time.heard(NOW - HOUR + 5 * SECOND * k, NOW + 10 * k)

    assert time.now_ms(NOW + 8 * SECOND) is None
    time.heard(NOW + 8 * SECOND, NOW + 9 * SECOND)
    assert time.now_ms(NOW + 10 * SECOND) == NOW + 10 * SECOND


def test_where_nothing_live_comes_the_worker_s_clock_is_used_in_the_end() -> None:
    time = PartitionTime(bound_ms=BOUND_MS)
    assert time.now_ms(NOW) == NOW  # nothing was read at all
    time.heard(NOW - HOUR, NOW)

    assert time.now_ms(NOW + FIRST_CONTACT_MS - 1) is None
    assert time.now_ms(NOW + FIRST_CONTACT_MS) == NOW + FIRST_CONTACT_MS

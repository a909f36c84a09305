"""A sender never seals twice with one nonce: not after an error, not at the end of its counters, not in a child."""

import os
from random import Random

import pytest

from tests.wire.sites import AT_MS, Site, begin, entropy, hear, named, refusal
from wire.envelope import MAX_PAYLOAD, NO_BINDING, SESSION_BYTES, FrameClass, parse_header
from wire.errors import Reason, SessionSpent
from wire.sessions import LAST_COUNTER, MAX_AGE_MS, SendSession, next_number


def test_a_session_begins_with_a_frame_of_its_own_and_counter_zero() -> None:
    session = Site().session(number=7)

    header = parse_header(session.frame)

    assert len(session.frame) == SESSION_BYTES
    assert header.session_id == session.session_id
    assert session.info.number == 7
    assert session.next_counter == 0


def test_every_frame_has_the_next_counter() -> None:
    session = Site().session()

    frames = [session.seal(b"x") for _ in range(1_000)]

    assert [counter for counter, _ in frames] == list(range(1_000))
    assert [parse_header(frame).counter for _, frame in frames] == list(range(1_000))
    assert len({frame for _, frame in frames}) == 1_000


def test_two_frames_with_the_same_payload_look_different() -> None:
    session = Site().session()

    bodies = {session.seal(b"SpO2 96")[1][48:] for _ in range(100)}

    assert len(bodies) == 100


def test_a_counter_that_was_taken_is_never_given_back() -> None:
    #   seal 0    the random source fails at 1    seal again
    #   |---------|------------------------------|
    #   0         1 is void                      2
    draws = entropy("fails once")
    fails = False

    def sometimes(size: int) -> bytes:
        if fails:
            raise OSError("no entropy")
        return draws(size)

    site = Site()
    session = SendSession.open(
        site.ann, site.edge.recipient(), binding_id=site.on_ann.binding_id, frame_class=FrameClass.VITALS, number=1,
        previous=bytes(16), now_ms=AT_MS, entropy=sometimes,
    )  # fmt: skip
    session.seal(b"first")
    fails = True
    with pytest.raises(OSError, match="no entropy"):
        session.seal(b"lost")
    fails = False

    counter, frame = session.seal(b"third")

    assert counter == 2
    assert hear(site.hearing(session), frame).counter == 2


def test_a_payload_that_is_too_long_costs_no_counter() -> None:
    session = Site().session()

    with pytest.raises(ValueError, match="at most 8191 bytes, this one has 8192"):
        session.seal(bytes(MAX_PAYLOAD + 1))

    assert session.seal(bytes(MAX_PAYLOAD))[0] == 0


def test_a_session_ends_with_its_last_counter() -> None:
    site = Site()
    session = site.session()
    session.next_counter = LAST_COUNTER

    counter, frame = session.seal(b"the last")

    assert counter == 2**20 - 1
    assert session.is_spent
    assert hear(site.hearing(session), frame).counter == 2**20 - 1
    for _ in range(3):
        with pytest.raises(SessionSpent, match="begin a new one"):
            session.seal(b"one too many")
    assert session.next_counter == 2**20


@pytest.mark.services
def test_a_forked_child_may_not_seal_and_its_parent_goes_on() -> None:
    session = Site().session()
    session.seal(b"before")

    child = os.fork()
    if child == 0:  # no assertion may leave this branch: the child is a copy of the whole test run
        try:
            session.seal(b"in the child")
        except SessionSpent:
            os._exit(42)
        except BaseException:  # noqa: BLE001
            os._exit(2)
        os._exit(1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 42
    assert session.seal(b"after")[0] == 1


def test_rotation_gives_new_keys_and_the_old_session_can_still_be_heard() -> None:
    #   sender     A ... B ...          late frames of A arrive after those of B
    #   receiver   A   B   b0   a0      and both count
    site = Site()
    first = site.session(number=1)
    second = site.session(number=2, previous=first.session_id)
    receiver = site.hearing(first)
    a = first.seal(b"SpO2 96")[1]
    b = second.seal(b"SpO2 96")[1]

    opened = begin(receiver, second)

    assert first.session_id != second.session_id
    assert not opened.chain_fork
    assert hear(receiver, b).session_id == second.session_id
    assert hear(receiver, a).session_id == first.session_id
    assert a[48:] != b[48:]


def test_a_restarted_sender_shares_nothing_with_the_one_before_but_its_name() -> None:
    # The very same moment, number and context: a copied card that starts twice. Real entropy, as on a device.
    site = Site()

    def started() -> SendSession:
        return SendSession.open(
            site.ann, site.edge.recipient(), binding_id=site.on_ann.binding_id, frame_class=FrameClass.VITALS,
            number=1, previous=bytes(16), now_ms=AT_MS,
        )  # fmt: skip

    one, two = started(), started()

    assert one.session_id != two.session_id
    assert one.seal(b"SpO2 96")[1][48:] != two.seal(b"SpO2 96")[1][48:]


def test_each_class_has_keys_of_its_own() -> None:
    site = Site()
    sessions = [site.session(frame_class=kind) for kind in (FrameClass.VITALS, FrameClass.ALARM)]
    sessions += [site.session(frame_class=FrameClass.HEARTBEAT, binding_id=NO_BINDING)]
    receiver = site.receiver()
    for session in sessions:
        begin(receiver, session)

    opened = [hear(receiver, session.seal(b"x")[1]) for session in sessions]

    assert [one.frame_class for one in opened] == [1, 2, 3]
    assert [one.binding_id for one in opened] == [site.on_ann.binding_id, site.on_ann.binding_id, NO_BINDING]


def test_only_the_recipient_can_open_a_session() -> None:
    site = Site()
    session = site.session()
    thief = Site()
    thief.edge.prekeys = {next(iter(site.edge.prekeys)): next(iter(site.bob.prekeys.values()))}

    refused = refusal(thief.receiver(), session.frame)

    assert refused.reason is Reason.HPKE


@pytest.mark.parametrize(
    ("last", "now_ms", "number"),
    [
        (0, AT_MS, AT_MS),  # the last one was forgotten: the clock is above it
        (AT_MS, AT_MS + 1, AT_MS + 1),
        (AT_MS, AT_MS, AT_MS + 1),  # twice in one millisecond
        (AT_MS, 0, AT_MS + 1),  # no clock: the last one is remembered
        (AT_MS + 5, AT_MS, AT_MS + 6),  # the clock went back
    ],
)
def test_session_numbers_always_rise(last: int, now_ms: int, number: int) -> None:
    assert next_number(last, now_ms) == number


def test_a_session_lives_an_hour_at_most() -> None:
    assert MAX_AGE_MS == 60 * 60 * 1_000


def test_any_payload_comes_out_as_it_went_in() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    draw = Random(5)

    for _ in range(300):
        payload = draw.randbytes(draw.choice((0, 1, 31, 32, 33, 200, 8_191)))
        assert hear(receiver, session.seal(payload)[1]).payload == payload


def test_a_frame_names_the_device_and_nothing_else_in_clear() -> None:
    site = Site()
    session = site.session()
    secret = named("a reading")

    _, frame = session.seal(secret)

    assert site.ann.device_id in frame
    assert secret not in frame
    assert site.on_ann.binding_id not in frame

"""What a receiver believes, what it refuses, and that a refusal changes nothing."""

from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from tests.wire.sites import AT_MS, DAY_MS, UNLIMITED, Site, begin, hear, identity, named, reason, refusal
from wire.counters import MAX_RANGES
from wire.envelope import NO_BINDING, FrameClass, SessionInfo, session_signed
from wire.errors import Reason, Rejected
from wire.identity import LATE_MS, SenderRecord
from wire.receiver import KEPT_TAGS, Opened, RateLimits, Receiver, SessionRow
from wire.sessions import SendSession


def entries(receiver: Receiver) -> int:
    """How many things a receiver remembers, in all its tables."""
    return sum(len(table) for table in vars(receiver).values() if isinstance(table, dict)) + sum(
        len(session.tags) + len(session.counters.ranges) for session in receiver._sessions.values()
    )


# Replay


def test_a_thousand_replays_are_one_reading() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"SpO2 96")

    heard = [hear(receiver, frame) for _ in range(1_000)]

    assert [one.duplicate for one in heard] == [False] + [True] * 999
    assert not any(one.conflict for one in heard)
    assert [row.ranges for row in receiver.dirty()] == [((0, 0),)]


def test_a_duplicate_changes_nothing_that_would_have_to_be_stored() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"SpO2 96")
    hear(receiver, frame)
    receiver.dirty()

    again = hear(receiver, frame, now_ms=AT_MS + 5_000)

    assert again.duplicate
    assert receiver.dirty() == []
    assert receiver.sessions()[0].last_ms == AT_MS


def test_frames_count_once_in_any_order() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    frames = [session.seal(b"x")[1] for _ in range(100)]
    sent = frames * 3
    Random(1).shuffle(sent)

    new = [one.counter for one in (hear(receiver, frame) for frame in sent) if not one.duplicate]

    assert sorted(new) == list(range(100))
    assert receiver.sessions()[0].ranges == ((0, 99),)
    assert receiver.highest(session.session_id) == 99


def test_replaying_the_session_frame_begins_nothing_anew() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"x")
    hear(receiver, frame)

    again = begin(receiver, session)

    assert again.known_before
    assert hear(receiver, frame).duplicate


def test_two_different_frames_with_one_counter_are_a_conflict() -> None:
    #   snapshot of a running device, restored twice: one secret, one counter, two frames
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, first = session.seal(b"SpO2 96")
    session.next_counter = 0
    _, second = session.seal(b"SpO2 71")

    heard = [hear(receiver, frame) for frame in (first, second, first)]

    assert [one.duplicate for one in heard] == [False, True, True]
    assert [one.conflict for one in heard] == [False, True, False]


def test_of_so_many_counters_back_a_conflict_is_noticed() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    for _ in range(KEPT_TAGS + 1):
        hear(receiver, session.seal(b"x")[1])

    conflicts = []
    for counter in (1, 0):
        session.next_counter = counter
        conflicts.append(hear(receiver, session.seal(b"y")[1]).conflict)

    assert conflicts == [True, False]


# Who speaks, where, about what


def test_a_frame_in_the_topic_of_another_device_is_refused() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"x")

    assert reason(receiver, frame, topic_device=site.bob.device_id) is Reason.TOPIC
    assert reason(receiver, session.frame, topic_device=site.bob.device_id) is Reason.TOPIC
    assert not hear(receiver, frame).duplicate


def test_a_stranger_is_refused_whatever_it_signs() -> None:
    site = Site()
    stranger = identity("wearable", "mallory")
    session = site.session(stranger)

    assert reason(site.receiver(), session.frame) is Reason.UNKNOWN_SENDER
    assert reason(site.receiver(), session.seal(b"x")[1]) is Reason.UNKNOWN_SENDER


def test_from_its_revocation_on_nothing_of_a_device_is_believed() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, before = session.seal(b"x")
    _, after = session.seal(b"y")
    hear(receiver, before)

    site.directory.revoke(site.ann.device_id)

    assert reason(receiver, after) is Reason.REVOKED
    assert reason(receiver, before) is Reason.REVOKED
    assert reason(receiver, site.session(number=2).frame) is Reason.REVOKED


def test_a_device_of_the_same_tenant_cannot_speak_for_another() -> None:
    site = Site()
    bob_as_ann = identity("wearable", "bob")
    bob_as_ann.device_id = site.ann.device_id
    bob_as_ann.credential_serial = site.ann.credential_serial

    assert reason(site.receiver(), site.session(bob_as_ann).frame) is Reason.SIGNATURE


def test_a_session_belongs_to_the_sender_who_began_it() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"x")

    relabelled = frame[:8] + site.bob.device_id + frame[24:]

    assert reason(receiver, relabelled) is Reason.NEED_SESSION


def test_the_class_of_a_frame_is_its_sessions() -> None:
    site = Site()
    vitals, alarms = site.session(), site.session(frame_class=FrameClass.ALARM)
    receiver = site.hearing(vitals)
    begin(receiver, alarms)
    _, frame = vitals.seal(b"x")

    assert reason(receiver, frame[:5] + bytes([FrameClass.ALARM]) + frame[6:]) is Reason.CLASS


@pytest.mark.parametrize(
    ("tenant", "to", "why"),
    [("another", "edge", Reason.TENANT), ("tenant", "another edge", Reason.RECIPIENT)],
)
def test_a_session_for_another_tenant_or_recipient_is_refused(tenant: str, to: str, why: Reason) -> None:
    site = Site()
    sender = identity("wearable", "ann", tenant=tenant)

    assert reason(site.receiver(), site.session(sender, to=identity("edge", to)).frame) is why


def test_header_and_context_must_say_the_same_class() -> None:
    # Signed by ann herself, with a header of another class than the context: only a broken sender does that.
    site = Site()
    session = site.session()
    header = session.frame[:5] + bytes([FrameClass.ALARM]) + session.frame[6:48]
    packed, hpke = session.frame[48:168], session.frame[168:248]

    frame = header + packed + hpke + site.ann.signing_key.sign(session_signed(header, packed, hpke))

    assert reason(site.receiver(), frame) is Reason.SESSION_ID


@pytest.mark.parametrize(
    ("now_ms", "valid"),
    [
        (AT_MS - 30 * DAY_MS - 1, False),
        (AT_MS - 30 * DAY_MS, True),
        (AT_MS + 30 * DAY_MS, True),
        (AT_MS + 30 * DAY_MS + 1, False),
    ],
)
def test_a_credential_counts_from_then_to_then(now_ms: int, valid: bool) -> None:
    site = Site()
    session = site.session(binding_id=NO_BINDING, frame_class=FrameClass.HEARTBEAT)
    receiver = site.receiver()

    if valid:
        begin(receiver, session, now_ms=now_ms)
    else:
        assert reason(receiver, session.frame, now_ms=now_ms) is Reason.CREDENTIAL


def test_a_credential_that_was_replaced_is_refused() -> None:
    site = Site()
    old = site.session()
    known = site.ann.record()
    renewed = known.credentials[0]._replace(serial=named("renewed", 8))
    site.replace(SenderRecord(device_id=known.device_id, role=known.role, credentials=(renewed,)))

    assert reason(site.receiver(), old.frame) is Reason.CREDENTIAL


def test_a_prekey_that_was_destroyed_opens_nothing() -> None:
    site = Site()
    session = site.session()
    receiver = site.receiver()
    site.edge.prekeys.clear()

    assert reason(receiver, session.frame) is Reason.PREKEY


def test_the_signature_is_checked_before_anything_is_decrypted() -> None:
    # Both are wrong. What is named is what was looked at first, and HPKE is the costly one.
    site = Site()
    session = site.session()
    site.edge.prekeys.clear()

    assert reason(site.receiver(), session.frame[:-64] + bytes(64)) is Reason.SIGNATURE


# Bindings


def test_a_wearable_cannot_file_readings_under_the_patient_of_another() -> None:
    site = Site()

    session = site.session(site.ann, binding_id=site.on_bob.binding_id)

    assert reason(site.receiver(), session.frame) is Reason.BINDING


def test_a_binding_that_nobody_made_is_refused() -> None:
    site = Site()

    assert reason(site.receiver(), site.session(binding_id=named("made up")).frame) is Reason.BINDING


@pytest.mark.parametrize(
    ("frame_class", "accepted"),
    [
        (FrameClass.VITALS, False),  # vital signs of nobody
        (FrameClass.ALARM, True),  # of the device itself
        (FrameClass.HEARTBEAT, True),
        (FrameClass.CONTROL, True),
    ],
)
def test_only_vital_signs_need_a_patient(frame_class: FrameClass, accepted: bool) -> None:
    site = Site()
    session = site.session(binding_id=NO_BINDING, frame_class=frame_class)
    receiver = site.receiver()

    if accepted:
        assert begin(receiver, session).frame_class == frame_class
    else:
        assert reason(receiver, session.frame) is Reason.BINDING


def test_after_the_end_of_a_binding_its_sessions_are_heard_and_no_new_one_begins() -> None:
    #   ann's session        binding ends       late frame    a session begun after the end
    #   |-------------------|------------------|-------------|
    #   0                   1 h                2 h           2 h
    hour = 3_600_000
    site = Site()
    running = site.session()
    receiver = site.hearing(running)
    site.directory.put(msgspec.structs.replace(site.on_ann, valid_to_ms=AT_MS + hour))
    late = AT_MS + 2 * hour

    assert hear(receiver, running.seal(b"x")[1], now_ms=late).binding_id == site.on_ann.binding_id
    assert reason(receiver, site.session(number=2, at_ms=late).frame, now_ms=late) is Reason.BINDING


@pytest.mark.parametrize(("after_the_end", "accepted"), [(0, True), (LATE_MS, True), (LATE_MS + 1, False)])
def test_a_session_begun_in_time_may_arrive_two_weeks_late(after_the_end: int, accepted: bool) -> None:
    site = Site()
    session = site.session(at_ms=AT_MS)
    site.directory.put(msgspec.structs.replace(site.on_ann, valid_to_ms=AT_MS))
    receiver = site.receiver()

    if accepted:
        begin(receiver, session, now_ms=AT_MS + after_the_end)
    else:
        assert reason(receiver, session.frame, now_ms=AT_MS + after_the_end) is Reason.BINDING


# Session numbers


@pytest.mark.parametrize("number", [0, 1, 6, 7])
def test_a_session_number_that_does_not_rise_is_a_clone_or_a_rollback(number: int) -> None:
    site = Site()
    receiver = site.hearing(site.session(number=7))
    old = site.session(number=number)

    refused = refusal(receiver, old.frame)

    # What it needs to jump ahead is in the refusal.
    assert (refused.reason, refused.session_id, refused.last_number) == (
        Reason.CLONE_OR_ROLLBACK,
        old.session_id,
        7,
    )
    assert reason(receiver, old.seal(b"x")[1]) is Reason.NEED_SESSION
    assert not begin(receiver, site.session(number=8)).known_before


def test_numbers_are_counted_per_patient_and_class() -> None:
    site = Site()
    receiver = site.hearing(site.session(number=100))

    begin(receiver, site.session(number=1, frame_class=FrameClass.ALARM))
    begin(receiver, site.session(site.bob, number=1, binding_id=site.on_bob.binding_id))
    begin(receiver, site.session(number=1, frame_class=FrameClass.HEARTBEAT, binding_id=NO_BINDING))

    assert len(receiver.sessions()) == 4


@pytest.mark.parametrize(("previous", "fork"), [("the first", False), ("somebody", True), (None, True)])
def test_a_chain_that_does_not_fit_is_noted_and_accepted(previous: str | None, fork: bool) -> None:
    site = Site()
    first = site.session(number=1)
    receiver = site.hearing(first)
    before = {"the first": first.session_id, "somebody": named("somebody"), None: bytes(16)}[previous]

    opened = begin(receiver, site.session(number=2, previous=before))

    assert opened.chain_fork is fork


def test_a_frame_of_an_unknown_session_asks_for_it_and_is_taken_once_it_came() -> None:
    #   SESSION lost    DATA         SESSION    DATA again
    #   |---------------|------------|----------|
    #                   which one?   known      a reading
    site = Site()
    session = site.session()
    receiver = site.receiver()
    _, frame = session.seal(b"x")

    refused = refusal(receiver, frame)
    begin(receiver, session)

    assert (refused.reason, refused.session_id) == (Reason.NEED_SESSION, session.session_id)
    assert not hear(receiver, frame).duplicate


# Restart


def test_a_receiver_made_anew_from_its_rows_goes_on_where_the_first_stopped() -> None:
    site = Site()
    session = site.session(number=5)
    first = site.receiver()
    begin(first, session)
    frames = [session.seal(bytes([n]))[1] for n in range(10)]
    for n in (0, 1, 2, 7):
        hear(first, frames[n])
    rows = msgspec.msgpack.decode(msgspec.msgpack.encode(first.dirty()), type=list[SessionRow])

    second = site.receiver(restored=rows)

    assert [hear(second, frame).duplicate for frame in frames] == [n in (0, 1, 2, 7) for n in range(10)]
    assert reason(second, site.session(number=5).frame) is Reason.CLONE_OR_ROLLBACK
    assert begin(second, session).known_before


@pytest.mark.parametrize("crash_after", range(0, 40, 3))
def test_a_receiver_that_dies_after_any_frame_counts_each_frame_once(crash_after: int) -> None:
    site = Site()
    session = site.session()
    disk: dict[bytes, SessionRow] = {}
    counted: list[int] = []
    receiver = site.receiver()
    frames = [session.frame] + [session.seal(b"x")[1] for _ in range(20)]
    sent = frames + frames  # whatever was not acknowledged comes again

    for n, frame in enumerate(sent):
        opened = receiver.receive(frame, topic_device=None, now_ms=AT_MS, mono_ms=0)
        if n == crash_after:  # before the commit: this frame's effect is lost and so is its counter
            receiver = site.receiver(restored=disk.values())
            if not disk:
                receiver.receive(session.frame, topic_device=None, now_ms=AT_MS, mono_ms=0)
            continue
        disk |= {row.session_id: row for row in receiver.dirty()}
        if isinstance(opened, Opened) and not opened.duplicate:
            counted.append(opened.counter)

    assert sorted(counted) == list(range(20))


def test_rows_hold_no_secret() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    thief = Site()
    thief.edge.prekeys.clear()

    stolen = thief.receiver(restored=receiver.sessions())

    assert reason(stolen, session.seal(b"x")[1]) is Reason.PREKEY


def test_a_session_that_was_followed_is_forgotten_after_its_time_and_never_believed_again() -> None:
    site = Site()
    old, new = site.session(number=1), site.session(number=2)
    receiver = site.receiver()
    begin(receiver, old, now_ms=AT_MS)
    begin(receiver, new, now_ms=AT_MS)

    assert receiver.forget(before_ms=AT_MS) == []
    assert receiver.forget(before_ms=AT_MS + 1) == [old.session_id]

    assert [row.session_id for row in receiver.sessions()] == [new.session_id]
    assert reason(receiver, old.seal(b"x")[1]) is Reason.NEED_SESSION
    assert reason(receiver, old.frame) is Reason.CLONE_OR_ROLLBACK


# Limits


def test_two_thousand_frames_at_once_and_then_fifty_a_second() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session, limits=RateLimits())
    frames = [session.seal(b"x")[1] for _ in range(2_051)]

    for frame in frames[:2_000]:
        hear(receiver, frame)
    assert refusal(receiver, frames[2_000]).reason is Reason.RATE
    for frame in frames[2_000:2_050]:
        hear(receiver, frame, mono_ms=1_000)

    assert refusal(receiver, frames[2_050], mono_ms=1_000).reason is Reason.RATE
    assert not hear(receiver, frames[2_050], mono_ms=1_020).duplicate  # it was not counted as received


def test_ten_sessions_a_minute() -> None:
    site = Site()
    receiver = site.receiver(limits=RateLimits())
    sessions = [site.session(number=n) for n in range(1, 13)]

    for session in sessions[:10]:
        begin(receiver, session)

    assert refusal(receiver, sessions[10].frame).reason is Reason.RATE
    assert refusal(receiver, sessions[10].frame, mono_ms=5_999).reason is Reason.RATE
    assert not begin(receiver, sessions[10], mono_ms=6_000).known_before


def test_a_sender_of_three_patients_may_send_three_times_as_much() -> None:
    site = Site()
    for bed in ("3", "4"):
        site.directory.put(site._binding(site.ann, bed))
    session = site.session()
    receiver = site.hearing(session, limits=RateLimits(frames_per_s=2, frames_burst=5))
    frames = [session.seal(b"x")[1] for _ in range(30)]

    for frame in frames[:15]:
        hear(receiver, frame)
    assert refusal(receiver, frames[15]).reason is Reason.RATE
    for frame in frames[15:21]:
        hear(receiver, frame, mono_ms=1_000)
    assert refusal(receiver, frames[21], mono_ms=1_000).reason is Reason.RATE


def test_a_binding_that_has_ended_earns_nothing() -> None:
    site = Site()
    assert site.directory.patients_of(site.edge.device_id) == 2

    site.directory.put(replace(site.on_bob, valid_to_ms=AT_MS))

    assert site.directory.patients_of(site.edge.device_id) == 1
    assert site.directory.patients_of(site.bob.device_id) == 0


def test_one_sender_at_its_limit_does_not_slow_another() -> None:
    site = Site()
    ann, bob = site.session(), site.session(site.bob, binding_id=site.on_bob.binding_id)
    receiver = site.hearing(ann, limits=RateLimits(frames_burst=3))
    begin(receiver, bob)
    for _ in range(3):
        hear(receiver, ann.seal(b"x")[1])

    assert reason(receiver, ann.seal(b"x")[1]) is Reason.RATE
    assert hear(receiver, bob.seal(b"x")[1]).sender == site.bob.device_id


def test_a_sender_with_too_many_gaps_has_to_close_them_first() -> None:
    #   0 . 2 . 4 . ... 510        256 ranges
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    frames = [session.seal(b"x")[1] for _ in range(2 * MAX_RANGES + 2)]
    for frame in frames[: 2 * MAX_RANGES : 2]:
        hear(receiver, frame)

    assert reason(receiver, frames[513]) is Reason.RANGES_FULL
    assert not hear(receiver, frames[1]).duplicate  # closes the first gap
    assert not hear(receiver, frames[513]).duplicate  # ... which makes room


# Somebody who has no key


def test_an_attacker_without_a_key_leaves_nothing_behind() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"SpO2 96")
    hear(receiver, frame)
    receiver.dirty()
    before = entries(receiver)
    draw = Random(7)

    for _ in range(5_000):
        made_up = draw.randbytes(16)
        forged = draw.choice(
            (
                frame[:24] + made_up + frame[40:],  # a session that does not exist
                frame[:8] + made_up + frame[24:],  # a device that does not exist
                frame[:40] + draw.randbytes(8) + frame[48:],  # a counter that was never sealed
                frame[:48] + draw.randbytes(len(frame) - 48),
                session.frame[:24] + made_up + session.frame[40:],
                draw.randbytes(draw.randrange(400)),
            )
        )
        with pytest.raises(Rejected):
            receiver.receive(forged, topic_device=None, now_ms=AT_MS, mono_ms=0)

    assert entries(receiver) == before
    assert receiver.dirty() == []
    assert len(receiver.sessions()) == 1


def test_an_attacker_cannot_make_a_session_that_only_lacks_a_signature() -> None:
    site = Site()
    receiver = site.receiver()

    for number in range(200):
        session = SendSession.open(
            site.ann,
            site.edge.recipient(),
            binding_id=site.on_ann.binding_id,
            frame_class=1,
            number=number,
            previous=bytes(16),
            now_ms=AT_MS,
        )
        assert reason(receiver, session.frame[:248] + bytes(64)) is Reason.SIGNATURE

    assert receiver.sessions() == ()


def test_the_order_of_checks_is_that_of_their_cost() -> None:
    # Each frame has every fault from its own line on; the first is the one that is named.
    site = Site()
    session = site.session()
    good = session.frame
    info = SessionInfo.unpack(good[48:168])
    receiver = Receiver(site.edge, site.directory, limits=UNLIMITED)

    def with_info(**changed: object) -> bytes:
        return good[:48] + info._replace(**changed).pack() + bytes(144)  # type: ignore[arg-type]

    wrong = named("wrong")
    all_wrong = {"tenant": wrong, "recipient": wrong, "sender": wrong, "credential_serial": wrong[:8]}
    found = [
        reason(receiver, bytes(10)),
        reason(receiver, with_info(**all_wrong), topic_device=wrong),
        reason(receiver, with_info(**all_wrong)),
        reason(receiver, with_info(**{**all_wrong, "tenant": info.tenant})),
        reason(receiver, with_info(sender=wrong, credential_serial=wrong[:8])),
        reason(receiver, with_info(credential_serial=wrong[:8])),
        reason(receiver, good[:-64] + bytes(64)),
    ]

    assert found == [
        Reason.LENGTH,
        Reason.TOPIC,
        Reason.TENANT,
        Reason.RECIPIENT,
        Reason.SESSION_ID,
        Reason.SESSION_ID,
        Reason.SIGNATURE,
    ]

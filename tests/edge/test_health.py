"""What an edge says of itself: it fits, it is announced, and it begins anew when it is not known."""

import os

from edge.health import MOST_LISTED, HeartbeatFacts, HeartbeatSessions, heartbeat
from simulators.made_up import demo_site
from tests.edge.benches import HOUR, NOW, UNLIMITED
from wire.codec import decode_heartbeat, encode
from wire.envelope import (
    HEADER_BYTES,
    INFO_BYTES,
    MAX_PAYLOAD,
    Ack,
    FrameClass,
    FrameType,
    SessionInfo,
    Stage,
    parse_header,
)
from wire.receiver import Opened, Receiver

FACTS = HeartbeatFacts(
    at_ms=NOW, uptime_ms=1, clock_quality=1, outbox_rows=0, outbox_oldest_ms=None, outbox_used=0.0, last_counters=(),
    void=(), closed=(), model="rules only", sensors=(), rejected={}, salvaged="ok", local_alarms=0, duplicates=0,
    documents=b"12345678",
)  # fmt: skip
BODY = heartbeat(b"boot", "1", FACTS)
SITE = demo_site(wearables=1, edges=1, now_ms=NOW)


def beats() -> HeartbeatSessions:
    edge = SITE.edges[0]
    assert edge.recipient is not None
    return HeartbeatSessions(edge.me, edge.recipient)


def kinds(frames: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    return [(frame_class, parse_header(frame).type) for frame_class, frame in frames]


def test_sessions_are_announced_once_a_connection() -> None:
    mine = beats()

    first = mine.frames(BODY, now_ms=NOW, mono_ms=0)
    second = mine.frames(BODY, now_ms=NOW, mono_ms=30_000)
    mine.on_connected(FrameClass.ALARM)
    mine.on_connected(FrameClass.VITALS)
    third = mine.frames(BODY, now_ms=NOW, mono_ms=60_000)

    session, data = int(FrameType.SESSION), int(FrameType.DATA)
    alarm, beat = int(FrameClass.ALARM), int(FrameClass.HEARTBEAT)
    assert kinds(first) == [(alarm, session), (alarm, data), (beat, session), (beat, data)]
    assert kinds(second) == [(alarm, data), (beat, data)]
    assert kinds(third) == kinds(first)


def test_the_cloud_opens_them_and_the_alarm_lane_carries_nothing() -> None:
    cloud = Receiver(SITE.ingest.me, SITE.ingest.directory, limits=UNLIMITED)

    opened = [
        cloud.receive(frame, topic_device=None, now_ms=NOW, mono_ms=0)
        for _, frame in beats().frames(BODY, now_ms=NOW, mono_ms=0)
    ]

    payloads = {one.frame_class: one.payload for one in opened if isinstance(one, Opened)}
    assert payloads[FrameClass.ALARM] == b""
    assert decode_heartbeat(payloads[FrameClass.HEARTBEAT]) == BODY


def test_a_session_that_the_cloud_does_not_know_is_announced_again() -> None:
    mine = beats()
    first = mine.frames(BODY, now_ms=NOW, mono_ms=0)
    session_id = parse_header(first[2][1]).session_id
    assert mine.owns(session_id)

    mine.on_ack(Ack(Stage.NEED_SESSION, 0, (), 0, NOW, bytes(16), session_id, FrameClass.HEARTBEAT, 1))

    again = mine.frames(BODY, now_ms=NOW, mono_ms=30_000)
    assert [parse_header(frame).session_id for kind, frame in again if kind == FrameClass.HEARTBEAT] == [session_id] * 2


def test_a_session_whose_number_is_too_low_is_followed_by_one_above() -> None:
    mine = beats()
    session_id = parse_header(mine.frames(BODY, now_ms=NOW, mono_ms=0)[2][1]).session_id

    mine.on_ack(Ack(Stage.NEED_SESSION, 0, (), NOW + HOUR, NOW, bytes(16), session_id, FrameClass.HEARTBEAT, 1))
    frames = mine.frames(BODY, now_ms=NOW, mono_ms=30_000)

    assert not mine.owns(session_id)
    announced = frames[1][1]
    assert parse_header(announced).type == FrameType.SESSION
    assert SessionInfo.unpack(announced[HEADER_BYTES : HEADER_BYTES + INFO_BYTES]).number == NOW + HOUR + 1


def test_a_heartbeat_fits_into_a_frame_however_much_there_is_to_say() -> None:
    many = [os.urandom(16) for _ in range(5_000)]
    said = heartbeat(
        b"boot",
        "1",
        FACTS._replace(
            last_counters=[(one, 1, 2**20) for one in many],
            void=[(one, 1, 2**20) for one in many],
            closed=[(one, 2**20) for one in many],
            sensors=[(one, "flags 7") for one in many],
            rejected={f"reason {n}": 2**40 for n in range(30)},
        ),
    )

    assert len(encode(said)) <= MAX_PAYLOAD
    assert [one for one, _, _ in said.last_counters] == many[-MOST_LISTED:]  # the newest


def test_ages_and_shares_are_sound_whatever_the_clock_does() -> None:
    said = heartbeat(b"boot", "1", FACTS._replace(outbox_oldest_ms=NOW + HOUR, outbox_used=1.7))

    assert (said.outbox_oldest_ms, said.outbox_used) == (0, 1.0)

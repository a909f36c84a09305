"""Attacks, each tried on the agent beside the bed or on the data centre, by somebody who owns the network.

Every test has the number of its row in docs/security.md, which says what has to exist before the others can be tried.
What must hold after each: nothing stored that was not measured, nothing learnt, nothing lost, and somebody can see it.
"""

import copy
import hashlib
import json
import os
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from runtime import logs
from runtime.clock import ManualClock
from simulators.made_up import demo_site
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from tests.attacks import published_scheme
from tests.edge.benches import Bench
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND, Site
from vitals.plan import MonitoringPlan
from wire.codec import decode_edge_vitals, encode
from wire.envelope import HEADER_BYTES, Ack, FrameClass, Stage, build_ack
from wire.errors import Reason, Rejected, SessionSpent
from wire.mqtt import Inbound
from wire.receiver import RateLimits, Receiver
from wire.sessions import FrameKeys, SendSession


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.begin()
    return made


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.begin(0, 1)
    return made


def test_a01_a_thousand_replays_are_one_reading_and_one_acknowledgement(site: Site) -> None:
    frame = site.sealed(site.message(0))

    for _ in range(10):
        site.accept(*[frame] * 100)

    assert site.store.count("reading") == 1
    assert site.stream.counts.duplicates == 999
    assert len(site.acks()) == 1


def test_a02_a_recording_played_to_a_cloud_that_lost_its_store_opens_no_alarm(site: Site) -> None:
    recording = [
        site.session().frame,
        *(site.sealed(site.message(n * SECOND, respiratory_rate=26.0, spo2=90.0)) for n in range(5)),
    ]
    site.accept(*recording)
    before = site.rows("SELECT reading_id FROM reading ORDER BY 1")
    site.store.close()
    for file in site.folder.glob("store.sqlite*"):
        file.unlink()
    site.alarms.clear()

    site.start()
    site.clock.advance(HOUR)
    site.accept(*recording)

    assert site.rows("SELECT reading_id FROM reading ORDER BY 1") == before
    assert [alarm for alarm in site.alarms if not alarm.retrospective and alarm.rule_id != "no_data"] == []


def test_a03_a_frame_cannot_be_moved_to_another_patient(bench: Bench) -> None:
    ann, bob = bench.site.wearables[0].me.device_id, bench.site.wearables[1].me.device_id
    frame = bench.sealed(0)
    other_session = bench.session(1).session_id

    bench.turn(frame, patient=1)  # Ann's frame on Bob's topic
    bench.turn(frame.replace(ann, bob, 1), patient=1)  # with Bob's name in it
    bench.turn(frame[:24] + other_session + frame[40:], patient=0)  # in Bob's session
    bench.turn(frame.replace(ann, bob, 1)[:24] + other_session + frame[40:], patient=1)  # in Bob's name and session

    assert bench.agent.counts.accepted == 0
    assert bench.agent.counts.rejected == {Reason.TOPIC: 1, Reason.NEED_SESSION: 2, Reason.AUTH: 1}


def test_a04_a_session_for_a_patient_of_another_edge_is_rejected(bench: Bench) -> None:
    ann = bench.site.wearables[0]
    assert ann.recipient is not None
    session = SendSession.open(
        ann.me,
        ann.recipient,
        binding_id=bench.site.bindings[1].binding_id,
        frame_class=FrameClass.VITALS,
        number=NOW,
        previous=bytes(16),
        now_ms=NOW,
    )

    bench.turn(session.frame)

    assert bench.agent.counts.rejected == {Reason.BINDING: 1}


def test_a05_late_frames_stay_with_the_patient_they_were_measured_on(site: Site) -> None:
    held_back = site.sealed(site.message(0))
    old = site.demo.bindings[0]
    directory = site.demo.ingest.directory
    directory.put(replace(old, valid_to_ms=NOW + MINUTE))  # the wearable goes to the next patient
    directory.put(replace(old, binding_id=b"n" * 16, patient="P0099", valid_from_ms=NOW + MINUTE))

    site.clock.advance(2 * HOUR)
    site.accept(held_back)

    assert site.rows("SELECT binding_id, backfilled FROM reading") == [(old.binding_id.hex(), 1)]


def test_a06_a07_a08_cut_flipped_and_lengthened_frames_are_all_refused(bench: Bench) -> None:
    frame = bench.sealed(0)
    damaged = [frame[:length] for length in range(len(frame))]
    damaged += [
        frame[:at] + bytes([frame[at] ^ 1 << bit]) + frame[at + 1 :] for at in range(len(frame)) for bit in range(8)
    ]
    damaged += [frame + bytes(extra) for extra in (1, 7, 32, 48, 9_000)] + [frame + frame]

    bench.turn(*damaged)

    assert bench.agent.counts.accepted == 0
    assert sum(bench.agent.counts.rejected.values()) == len(damaged)
    bench.turn(frame)
    assert bench.agent.counts.accepted == 1


def test_a09_no_key_and_nonce_come_twice_however_often_an_edge_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[tuple[bytes, bytes]] = set()
    made = FrameKeys.__init__
    seal = FrameKeys.seal

    def watched_init(keys: FrameKeys, secret: bytes, *rest: Any) -> None:
        made(keys, secret, *rest)
        names[id(keys)] = hashlib.sha256(secret).digest()

    def watched_seal(keys: FrameKeys, header: bytes, counter: int, salt: int, padded: bytes) -> bytes:
        nonce = names[id(keys)], keys._nonce(counter, salt)
        assert nonce not in used
        used.add(nonce)
        return seal(keys, header, counter, salt, padded)

    names: dict[int, bytes] = {}
    monkeypatch.setattr(FrameKeys, "__init__", watched_init)
    monkeypatch.setattr(FrameKeys, "seal", watched_seal)
    bench.sessions[0] = bench.new_session(0, number=NOW + 1)  # one that is watched from its beginning
    bench.begin(0)

    for kill in range(40):
        bench.turn(bench.sealed(kill * SECOND))
        if kill % 2:
            bench.pass_time()  # every other time it dies with a commit behind it
        bench.crash()

    assert len(used) > 80


@pytest.mark.services
def test_a10_a_forked_child_may_not_seal(bench: Bench) -> None:
    session = bench.session()
    child = os.fork()
    if child == 0:
        try:
            session.seal(b"x")
        except SessionSpent:
            os._exit(0)
        os._exit(1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def test_a11_a_copied_card_is_noticed(bench: Bench, tmp_path: Path) -> None:
    # Two edges from one card: both begin a session after the same one, and only one can be the next.
    cloud = Receiver(bench.site.ingest.me, bench.site.ingest.directory, limits=RateLimits(frames_per_s=1e6))
    edge = bench.site.edges[0]
    assert edge.recipient is not None

    def next_session(number: int) -> SendSession:
        assert edge.recipient is not None
        return SendSession.open(
            edge.me,
            edge.recipient,
            binding_id=bench.site.bindings[0].binding_id,
            frame_class=1,
            number=number,
            previous=bytes(16),
            now_ms=NOW,
        )

    def hear(session: SendSession) -> Any:
        return cloud.receive(session.frame, topic_device=edge.me.device_id, now_ms=NOW, mono_ms=0)

    hear(next_session(NOW))
    forked = hear(next_session(NOW + 5))  # knows nothing of the first
    assert forked.chain_fork
    with pytest.raises(Rejected) as caught:
        hear(next_session(NOW + 3))
    assert caught.value.reason is Reason.CLONE_OR_ROLLBACK


def test_a12_a_restored_memory_does_not_repeat_a_nonce_and_is_noticed(bench: Bench) -> None:
    session = bench.session()
    twin = copy.copy(session)

    one, other = session.seal(encode(bench.vitals(0)))[1], twin.seal(encode(bench.vitals(5_000)))[1]
    bench.turn(one, other)

    assert one[40:44] == other[40:44]  # the same counter
    assert one[44:48] != other[44:48]  # another salt, so another nonce
    assert bench.agent.counts.accepted == 1
    assert bench.agent.counts.rejected == {Reason.COUNTER_CONFLICT: 1}


@pytest.mark.parametrize(
    ("at", "byte", "why"), [(2, 0, Reason.VERSION), (4, 0, Reason.SUITE), (4, 2, Reason.SUITE), (4, 255, Reason.SUITE)]
)
def test_a13_no_weaker_version_or_suite_is_spoken(at: int, byte: int, why: Reason, bench: Bench) -> None:
    frame = bench.sealed(0)

    bench.turn(frame[:at] + bytes([byte]) + frame[at + 1 :])

    assert bench.agent.counts.rejected == {why: 1}
    assert bench.told() == []  # and no offer is made


def test_a14_a_revoked_device_is_refused_from_the_next_frame_on(bench: Bench) -> None:
    bench.turn(bench.sealed(0))
    bench.site.edges[0].directory.revoke(bench.site.wearables[0].me.device_id)

    bench.turn(bench.sealed(5_000))

    assert bench.agent.counts.accepted == 1
    assert bench.agent.counts.rejected == {Reason.REVOKED: 1}


def test_a15_a_broker_that_reads_everything_finds_no_value(bench: Bench) -> None:
    odd = {"heart_rate": 71.123456789, "spo2": 97.987654321, "temperature": 36.555555555}
    bench.turn(*(bench.sealed(n * 5_000, **odd) for n in range(20)))
    bench.pass_time()

    captured = b"".join(frame for _, frame in bench.hand.published)
    for value in odd.values():
        for pattern in (struct.pack(">d", value), struct.pack("<d", value), str(value).encode()):
            assert pattern not in captured
    for name in (bench.site.bindings[0].patient.encode(), bench.site.bindings[0].bed.encode() * 4):
        assert name not in captured


def test_a16_a_forged_signature_makes_no_edge_delete(bench: Bench) -> None:
    bench.turn(bench.sealed(0))
    bench.pass_time()
    session_id = bench.arrived()[0].session_id
    ack = Ack(
        Stage.STORED, 0, ((0, 2**31),), None, NOW, bench.site.ingest.me.device_id, session_id, FrameClass.VITALS, 1
    )

    bench.hear(build_ack(Ed25519PrivateKey.generate(), ack))
    bench.hear(build_ack(bench.site.wearables[0].me.signing_key, ack))  # a real key, and the wrong one
    assert bench.agent.waiting == 1

    bench.hear(build_ack(bench.site.ingest.me.signing_key, ack._replace(ranges=((5, 900),))))  # never sent
    assert bench.agent.waiting == 1
    assert bench.agent.counts.forged_acks == 2
    assert bench.agent.senders[FrameClass.VITALS].counts.never_sent == 1


def test_a17_withheld_acknowledgements_lose_no_reading_and_queues_stay_bounded(bench: Bench) -> None:
    for n in range(600):
        bench.turn(bench.sealed(n * 5_000))
        bench.clock.advance(20)
    bench.pass_time()

    assert bench.agent.waiting == 600
    assert bench.agent.senders[FrameClass.VITALS].in_flight <= bench.config.windows.vitals


def test_a18_a_wearable_cannot_publish_as_an_edge(site: Site) -> None:
    wearable = site.demo.wearables[0]
    assert site.edge.recipient is not None
    session = SendSession.open(
        wearable.me,
        site.edge.recipient,
        binding_id=site.demo.bindings[0].binding_id,
        frame_class=FrameClass.VITALS,
        number=NOW,
        previous=bytes(16),
        now_ms=NOW,
    )
    topic = f"vl/v1/e/{wearable.me.device_id.hex()}/up/1"

    site.stream.accept([site.inbound(session.frame)._replace(topic=topic)])

    assert site.stream.counts.rejected == {Reason.UNKNOWN_SENDER.value: 1}
    assert site.store.count("rx_session") == 2  # the edge's own


def test_a21_oversized_frames_cost_no_memory(bench: Bench) -> None:
    frames = [os.urandom(8_257) for _ in range(300)]
    bench.turn(*frames[:10])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for _ in range(5):
        bench.turn(*frames)
        bench.hand.pubacks.clear()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert bench.agent.counts.rejected == {Reason.LENGTH: 1_510}
    assert after - before < 500_000


BOMBS = {
    "deep nesting": b"\x91" * 8_000 + b"\xc0",
    "huge array": b"\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge string": b"\xdb\xff\xff\xff\xff",
    "huge binary": b"\xc6\xff\xff\xff\xff",
    "huge extension": b"\xc9\xff\xff\xff\xff\x01",
    "not text": b"\xa4\xff\xfe\xfd\xfc",
    "lone surrogate": b"\xa3\xed\xa0\x80",
    "nothing": b"\xc1",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a23_a_decompression_bomb_in_an_authentic_frame_becomes_a_dead_letter(bomb: bytes, site: Site) -> None:
    tracemalloc.start()
    site.accept(site.session().seal(bomb)[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 5_000_000
    assert site.rows("SELECT reason FROM dead_letter") == [("schema",)]
    assert [ack.stage for ack in site.acks()] == [Stage.REJECTED]


@pytest.mark.parametrize("t_ms", [NOW - 10 * 24 * HOUR, NOW + 3_653 * 24 * HOUR, 0])
def test_a25_a_device_s_clock_moves_no_reading_and_hides_no_silence(t_ms: int, bench: Bench) -> None:
    bench.turn(bench.sealed(0))
    bench.turn(bench.sealed(5_000, t_ms=t_ms, t_quality=1))
    bench.pass_time()

    times = [decode_edge_vitals(one.payload).at_ms for one in bench.arrived()]
    assert all(abs(at_ms - NOW) <= 5_000 for at_ms in times)
    assert len(times) == 2


def test_a26_an_edge_that_boots_in_1970_continues_from_its_stored_time(bench: Bench) -> None:
    bench.turn(bench.sealed(0))
    bench.pass_time()

    bench.clock.set_wall(1_000)
    bench.crash()
    bench.turn(bench.sealed(5_000))
    bench.pass_time()

    bench.hear(bench.cloud_says(Stage.STORED, bench.arrived()[0].session_id, [(0, 0)]))
    received = [decode_edge_vitals(one.payload).received_ms for one in bench.arrived()]
    assert all(ms >= NOW for ms in received)


def test_a35_no_value_and_no_name_is_in_a_log(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up(level="DEBUG", stream=sys.stderr)
    odd = {"heart_rate": 173.25, "spo2": 84.75, "respiratory_rate": 31.125}
    for n in range(30):
        bench.turn(bench.sealed(n * 5_000, **odd), b"garbage" * 40)
        bench.pass_time(5_000)

    said = capfd.readouterr()
    secrets = [str(value) for value in odd.values()]
    secrets += [binding.patient for binding in bench.site.bindings]
    secrets += [bench.site.edges[0].me.signing_key.private_bytes_raw().hex()]
    assert [secret for secret in secrets if secret in said.out + said.err] == []


def test_a37_a_device_that_floods_ingest_does_not_delay_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=RateLimits(frames_per_s=50, frames_burst=100))
    bench.begin(0, 1)

    bench.turn(*(bench.sealed(n) for n in range(1_000)), patient=0)
    bench.turn(bench.sealed(0, patient=1), patient=1)

    assert bench.agent.counts.rejected == {Reason.RATE: 900}
    assert bench.agent.counts.accepted == 101


def test_a38_the_alarm_connection_always_has_traffic(bench: Bench) -> None:
    lanes = []
    for _ in range(4):
        bench.hand.published.clear()
        bench.pass_time(31 * SECOND)
        lanes.append([topic.rsplit("/", 1)[-1] for topic, _ in bench.hand.published if "/e/" in topic])

    assert all(str(int(FrameClass.ALARM)) in lane for lane in lanes)


def test_a39_the_published_scheme_gives_its_key_away() -> None:
    # One message of one of 200 patients of 5 doctors in 2 hospitals, whose first bytes everybody knows.
    secret = published_scheme.key_of(patient=137, doctor=4, hospital=2)
    message = published_scheme.encrypt(secret, b'{"heart_rate": 72, "spo2": 97}')

    found = published_scheme.search(
        message, b'{"heart_rate"', patients=range(200), doctors=range(1, 6), hospitals=range(1, 3)
    )

    assert found == (137, 4, 2)
    # And whoever has no key at all can change what it says: there is no integrity.
    forged = bytearray(message)
    forged[15] ^= ord("7") ^ ord("1")
    assert json.loads(published_scheme.encrypt(secret, bytes(forged)))["heart_rate"] == 12


def test_a39_in_our_scheme_equal_messages_never_give_equal_frames(bench: Bench) -> None:
    words = encode(bench.vitals(0))
    frames = [bench.new_session(number=NOW + n).seal(words)[1][HEADER_BYTES:] for n in range(50)]

    assert len(set(frames)) == 50
    # No key follows from a name: keys are drawn, and sealed to one recipient for an hour.
    again = demo_site(wearables=2, edges=1, now_ms=NOW)
    assert again.bindings == bench.site.bindings
    one, other = (made.edges[0].me.prekeys.keys() for made in (again, bench.site))
    assert not one & other


def test_a40_dropping_only_the_newest_frames_is_detected_by_heartbeats(bench: Bench, tmp_path: Path) -> None:
    demo = bench.site
    cloud_clock = ManualClock(NOW)
    with Store(tmp_path / "store.sqlite") as store:
        cloud = EmbeddedStream(
            demo.ingest.me, demo.ingest.directory, store, lambda _: MonitoringPlan(), cloud_clock, ack_interval_ms=0
        )
        missing = []
        for n in range(60):  # five minutes; from the second on nothing of Ann's passes but what is not a reading
            bench.turn(bench.sealed(n * 5_000))
            bench.pass_time(5_000)
            cloud_clock.advance(5_000)
            passed = [
                Inbound(topic, frame, 1, 0)
                for topic, frame in bench.hand.published
                if "/e/" in topic and (n < 12 or frame[5] != FrameClass.VITALS)
            ]
            bench.hand.published.clear()
            cloud.accept(passed)
            for owed in cloud.owed():
                bench.hear(owed.frame)
            missing.append(cloud.counts.gaps_detected)

        first = missing.index(1)
        assert 12 + 12 <= first <= 12 + 18  # a minute for resends, and the heartbeats before and after it
        assert missing[-1] == 1  # told once
        assert cloud.counts.stored >= 11

"""Attacks on a real Mosquitto that runs on the files of a site, by strangers, stolen devices and devices of the site.

The rows are those of docs/security.md. What the broker lets through is still sealed; here it is about what it refuses.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from stream.site.broker_files import WARN_LIST_MS, BrokerFolder
from tests.patience import PATIENCE_S
from tests.services.secured import (
    NO_SUBSCRIBERS,
    NOT_AUTHORIZED,
    TAKEN,
    Heard,
    SecuredSite,
    Speaker,
    a_secured_site,
    now,
    until,
)

pytestmark = pytest.mark.services

ALL = "#", "+/+/+/+/up/+", "vl/v1/#", "vl/v1/+/+/up/+", "$share/g/vl/v1/#", "$share/h/#", "$SYS/#"


class Cast(NamedTuple):
    """Ann's wearable on her edge, Bob's on his, and the data centre."""

    site: SecuredSite
    ann: str
    edge: str
    bob: str
    other_edge: str

    def speaker(self, name: str) -> Speaker:
        return self.site.speaker(name)


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    with a_secured_site(tmp_path_factory.mktemp("site")) as site:
        made = Cast(site, *(site.new_device(role) for role in ("wearable", "edge", "wearable", "edge")))
        site.bind(made.ann, made.edge)
        site.bind(made.bob, made.other_edge)
        for name in ("ingest-v", "ingest-a", "monitor"):
            site.certify(name)
        site.begin()
        yield made


def up(wearable: str, frame_class: int = 1) -> str:
    return f"vl/v1/w/{wearable}/up/{frame_class}"


def up_e(edge: str, frame_class: int = 1) -> str:
    return f"vl/v1/e/{edge}/up/{frame_class}"


def test_all_that_is_meant_to_be_said_is_said(cast: Cast) -> None:
    with (
        cast.speaker(cast.ann) as ann, cast.speaker(cast.edge) as edge, cast.speaker(f"{cast.edge}-a") as alarms,
        cast.speaker("ingest-v") as ingest_v, cast.speaker("ingest-a") as ingest_a,
    ):  # fmt: skip
        ann.hear(f"vl/v1/w/{cast.ann}/down")
        edge.hear(f"vl/v1/w/{cast.ann}/up/+", f"vl/v1/e/{cast.edge}/down")
        alarms.hear(f"vl/v1/e/{cast.edge}/down-a")
        ingest_v.hear("vl/v1/e/+/up/1", "vl/v1/e/+/up/3")
        ingest_a.hear("vl/v1/e/+/up/2")

        for speaker, topic, hearer in (
            (ann, up(cast.ann, 1), edge),
            (ann, up(cast.ann, 2), edge),
            (edge, f"vl/v1/w/{cast.ann}/down", ann),
            (edge, up_e(cast.edge, 1), ingest_v),
            (edge, up_e(cast.edge, 3), ingest_v),
            (alarms, up_e(cast.edge, 2), ingest_a),
            (ingest_v, f"vl/v1/e/{cast.edge}/down", edge),
            (ingest_a, f"vl/v1/e/{cast.edge}/down-a", alarms),
        ):
            assert speaker.say(topic) == TAKEN
            assert hearer.hears(topic)


def test_a13_tls_1_2_is_refused(cast: Cast) -> None:
    context = cast.site.context(cast.ann)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2

    with Speaker(context, cast.site.broker.port) as speaker:
        assert not speaker.connected
        assert "PROTOCOL_VERSION" in speaker.refusal.upper()


def test_a13_plain_mqtt_is_refused(cast: Cast) -> None:
    with Speaker(None, cast.site.broker.port) as speaker:
        assert not speaker.connected


def test_a13_nobody_without_a_certificate_of_ours_gets_in(cast: Cast, tmp_path: Path) -> None:
    with Speaker(cast.site.context(None), cast.site.broker.port) as speaker:
        assert not speaker.connected

    # Somebody who calls himself Ann, and the broker's own certificate, which is not one of a client.
    with a_secured_site(tmp_path) as foreign:
        foreign.certify(cast.ann)
        context = cast.site.context(None)
        context.load_cert_chain(tmp_path / f"{cast.ann}.pem")
        with Speaker(context, cast.site.broker.port) as speaker:
            assert not speaker.connected
    context = cast.site.context(None)
    context.load_cert_chain(cast.site.files.folder / "broker.crt", cast.site.files.folder / "broker.key")
    with Speaker(context, cast.site.broker.port) as speaker:
        assert not speaker.connected


@contextmanager
def by_hand(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection that the broker has accepted, for what no client would do. Raises OSError if it does not."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
    ):
        secured.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x03raw")
        if secured.recv(1_000)[:1] != b"\x20":
            raise ConnectionRefusedError
        yield secured


def session_of(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """The TLS session of a connection, which may resume an earlier one; None if it was refused."""
    try:
        with by_hand(context, port, session) as secured:
            return secured.session
    except OSError:
        return None


def test_a14_a_stolen_edge_is_cut_off_while_it_is_connected_and_does_not_come_back(cast: Cast) -> None:
    site, thief = cast.site, cast.site.new_device("edge")
    worn = site.new_device("wearable")
    site.bind(worn, thief)
    assert site.refresh().reloaded
    context = site.context(thief)
    resumable = session_of(context, site.broker.port)
    assert resumable is not None
    with (
        cast.speaker(thief) as vitals, cast.speaker(f"{thief}-a") as alarms, cast.speaker(worn) as wearable,
        cast.speaker("ingest-v") as ingest, cast.speaker(cast.edge) as honest,
    ):  # fmt: skip
        ingest.hear("vl/v1/e/+/up/1")
        vitals.hear(f"vl/v1/e/{thief}/down", f"vl/v1/w/{worn}/up/+")
        honest.hear(f"vl/v1/e/{cast.edge}/down")
        assert until(lambda: vitals.say(up_e(thief)) == TAKEN)
        assert alarms.say(up_e(thief, 2)) in (TAKEN, NO_SUBSCRIBERS)
        before = len(ingest.heard)

        began = time.monotonic()
        site.revoke(thief)
        assert site.refresh().reloaded
        assert until(lambda: vitals.say(up_e(thief)) == NOT_AUTHORIZED)
        took_s = time.monotonic() - began

        assert took_s < 5  # 60 are allowed
        assert alarms.say(up_e(thief, 2)) == NOT_AUTHORIZED
        # Nothing reaches it any more, though its subscriptions stand and it is still connected.
        ingest.say(f"vl/v1/e/{thief}/down", b"secret")
        wearable.say(up(worn), b"secret")
        ingest.say(f"vl/v1/e/{cast.edge}/down", b"after it")
        assert honest.hears(f"vl/v1/e/{cast.edge}/down", b"after it")
        assert [one for one in vitals.heard if one.payload == b"secret"] == []
        assert len(ingest.heard) <= before + 1  # what was on its way when it was revoked

    for name in (thief, f"{thief}-a"):
        with cast.speaker(name) as again:
            assert not again.connected
    assert session_of(context, site.broker.port) is None
    assert session_of(context, site.broker.port, resumable) is None  # a TLS session from before opens no door either
    with cast.speaker(cast.edge) as honest:
        assert honest.connected


def test_a14_a_denial_stands_above_the_pattern_for_wearables(cast: Cast) -> None:
    site, thief = cast.site, cast.site.new_device("wearable")
    with cast.speaker(thief) as wearable:
        assert wearable.say(up(thief)) == NO_SUBSCRIBERS
        site.revoke(thief)
        site.refresh()

        assert until(lambda: wearable.say(up(thief)) == NOT_AUTHORIZED)
        assert {wearable.say(up(thief, n)) for n in (1, 2, 3, 4)} == {NOT_AUTHORIZED}


def test_a15_a_broker_of_another_authority_is_left_alone(cast: Cast, tmp_path: Path) -> None:
    with a_secured_site(tmp_path) as rogue:
        theirs = rogue.new_device("wearable")
        rogue.begin()

        with Speaker(cast.site.context(cast.ann), rogue.broker.port) as ann:
            assert not ann.connected
            assert "CERTIFICATE_VERIFY_FAILED" in ann.refusal.upper()
        with rogue.speaker(theirs) as control:
            assert control.connected


def test_a15_a_broker_that_is_ours_and_elsewhere_is_left_alone(cast: Cast) -> None:
    context = cast.site.context(cast.ann)
    with (
        socket.create_connection(("127.0.0.1", cast.site.broker.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="not valid for"),
    ):
        context.wrap_socket(plain, server_hostname="broker.example")


def test_a18_a_wearable_writes_to_its_own_branch_and_nowhere_else(cast: Cast) -> None:
    ann, bob, edge = cast.ann, cast.bob, cast.edge
    topics = (
        up(bob), up(bob, 2), f"vl/v1/w/{bob}/down", f"vl/v1/w/{ann}/down", up_e(ann), up_e(ann, 2), up_e(edge),
        f"vl/v1/e/{edge}/down", f"vl/v1/e/{edge}/down-a", f"vl/v1/w/{ann}/up", f"vl/v1/w/{ann}/up/1/1", "vl/v1/w//up/1",
        f"vl/v1/w/{ann.upper()}/up/1", "$SYS/broker/uptime", "$CONTROL/dynamic-security/v1", "x",
    )  # fmt: skip
    with (
        cast.speaker(ann) as attacker, cast.speaker(cast.edge) as near, cast.speaker(cast.other_edge) as far,
        cast.speaker(bob) as victim, cast.speaker("ingest-v") as ingest, cast.speaker("monitor") as monitor,
    ):  # fmt: skip
        near.hear(f"vl/v1/w/{ann}/up/+", f"vl/v1/e/{edge}/down")
        far.hear(f"vl/v1/w/{bob}/up/+")
        victim.hear(f"vl/v1/w/{bob}/down")
        ingest.hear("vl/v1/e/+/up/1", "vl/v1/e/+/up/3")
        monitor.hear("$SYS/#")

        answers = {topic: attacker.say(topic, b"forged") for topic in topics}
        for topic in topics:
            attacker.murmur(topic, b"forged")
        assert attacker.say(up(ann), b"true") == TAKEN
        assert near.hears(up(ann), b"true")

        assert set(answers.values()) == {NOT_AUTHORIZED}
        heard = [one for speaker in (near, far, victim, ingest, monitor) for one in speaker.heard]
        assert [one for one in heard if one.payload == b"forged"] == []


def test_a18_a_last_will_goes_nowhere_else_either(cast: Cast) -> None:
    with cast.speaker(cast.other_edge) as far, cast.speaker(cast.bob) as bob:
        far.hear(f"vl/v1/w/{cast.bob}/up/+")
        with cast.site.speaker(cast.ann, will=up(cast.bob)) as ann:
            ann.vanish()

        with cast.site.speaker(cast.bob, will=up(cast.bob)) as own:  # bob is thrown out; his own will arrives
            assert bob.loses_connection()
            own.vanish()
        assert far.hears(up(cast.bob), b"will")
        assert len(far.heard) == 1


@pytest.mark.parametrize(("lane", "may"), [("", {1, 3}), ("-a", {2})])
def test_a18_each_lane_of_an_edge_carries_its_own_classes(lane: str, may: set[int], cast: Cast) -> None:
    with cast.speaker(f"{cast.edge}{lane}") as speaker:
        answers = {n: speaker.say(up_e(cast.edge, n)) for n in (1, 2, 3, 4)}
        others = {speaker.say(up_e(cast.other_edge, n)) for n in (1, 2, 3, 4)}
        unbound = speaker.say(f"vl/v1/w/{cast.bob}/down")

    assert {n for n, answer in answers.items() if answer != NOT_AUTHORIZED} == may
    assert others == {NOT_AUTHORIZED}
    assert unbound == NOT_AUTHORIZED


def test_a19_whoever_listens_to_everything_hears_nothing(cast: Cast) -> None:
    stranger = cast.site.new_device("wearable")
    with (
        cast.speaker(cast.ann) as ann, cast.speaker(cast.edge) as edge, cast.speaker("ingest-v") as ingest,
        cast.speaker(stranger) as one, cast.speaker(cast.other_edge) as two,
        cast.speaker(f"{cast.other_edge}-a") as three, cast.speaker("monitor") as monitor,
    ):  # fmt: skip
        for intruder in (one, two, three, monitor):
            intruder.hear(*ALL)
        edge.hear(f"vl/v1/w/{cast.ann}/up/+", f"vl/v1/e/{cast.edge}/down")
        ann.hear(f"vl/v1/w/{cast.ann}/down")
        ingest.hear("vl/v1/e/+/up/1")

        said = 0
        ends = time.monotonic() + 2.5  # the broker speaks about itself every second
        while time.monotonic() < ends:
            assert ann.say(up(cast.ann)) == TAKEN
            assert edge.say(up_e(cast.edge)) == TAKEN
            assert edge.say(f"vl/v1/w/{cast.ann}/down") == TAKEN
            assert ingest.say(f"vl/v1/e/{cast.edge}/down") == TAKEN
            said += 1

        assert until(lambda: (len(ingest.heard), len(ann.heard), len(edge.heard)) == (said, said, 2 * said))
        assert said > 20
        assert [intruder.heard for intruder in (one, two, three)] == [[], [], []]
        assert monitor.heard
        assert [heard for heard in monitor.heard if not heard.topic.startswith("$SYS/")] == []


def test_a20_a_certificate_under_another_s_client_id_is_itself(cast: Cast) -> None:
    with (
        cast.speaker(cast.edge) as edge, cast.speaker(cast.other_edge) as far,
        cast.site.speaker(cast.ann, client_id=cast.ann) as ann,
    ):  # fmt: skip
        edge.hear(f"vl/v1/w/{cast.ann}/up/+")
        far.hear(f"vl/v1/w/{cast.bob}/up/+")
        ann.hear(f"vl/v1/w/{cast.ann}/down")

        with cast.site.speaker(cast.bob, client_id=cast.ann, sleeps=True) as attacker:
            assert attacker.connected
            assert attacker.say(up(cast.ann)) == NOT_AUTHORIZED
            assert attacker.say(up(cast.bob)) == TAKEN
            assert ann.say(up(cast.ann)) == TAKEN
            edge.say(f"vl/v1/w/{cast.ann}/down")

            assert ann.hears(f"vl/v1/w/{cast.ann}/down")
            assert ann.connected
            assert attacker.heard == []
        assert far.hears(up(cast.bob))
        assert edge.heard == [Heard(up(cast.ann), b"said")]


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096


@pytest.mark.parametrize(
    "oversized",
    [
        b"\x32\x81\x80\x01" + bytes(16_385),  # a PUBLISH of 16,385 bytes and its head
        b"\x32\xff\xff\xff\x7f" + bytes(1_000),  # announced: a quarter of a gigabyte
    ],
    ids=["too long", "announced"],
)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a21_too_long_a_packet_ends_the_connection_and_costs_no_memory(oversized: bytes, cast: Cast) -> None:
    with cast.speaker(cast.edge) as edge, cast.speaker(cast.ann) as ann:
        edge.hear(f"vl/v1/w/{cast.ann}/up/+")
        assert ann.say(up(cast.ann), bytes(16_000)) == TAKEN
        assert ann.say(up(cast.ann), bytes(16_385)) is None
        assert "too large" in ann.refusal
    before = resident_bytes(cast.site.broker.pid)

    context = cast.site.context(cast.bob)
    for _ in range(40):
        with by_hand(context, cast.site.broker.port) as attacker, suppress(ConnectionResetError, ssl.SSLEOFError):
            attacker.sendall(oversized)
            while attacker.recv(1_000):
                pass

    assert resident_bytes(cast.site.broker.pid) - before < 5_000_000


def test_a27_an_expired_revocation_list_locks_everybody_out_until_there_is_a_new_one(tmp_path: Path) -> None:
    with a_secured_site(tmp_path, list_days=3 / 86_400) as site:
        names = (site.new_device("wearable"), site.new_device("edge"), "ingest-v")
        site.certify("ingest-v")
        site.begin()

        def how_many_get_in() -> int:
            connected = 0
            for name in names:
                with site.speaker(name) as speaker:
                    connected += speaker.connected
            return connected

        with site.speaker(names[0]) as early:
            assert early.connected
            assert 0 < site.files.list_left_ms(round(now().timestamp() * 1_000)) < WARN_LIST_MS

            assert until(lambda: site.files.list_left_ms(round(now().timestamp() * 1_000)) < 0)
            assert how_many_get_in() == 0
            assert early.connected  # who is in stays in, so nobody notices by silence

            site.files = BrokerFolder(site.files.folder)
            written = site.refresh()
            assert (written.changed, written.reloaded) == (("revoked.crl",), True)
            assert until(lambda: how_many_get_in() == 3)
            assert site.files.list_left_ms(round(now().timestamp() * 1_000)) > WARN_LIST_MS


def test_a_wearable_that_is_bound_now_is_heard_without_a_restart(cast: Cast) -> None:
    new = cast.site.new_device("wearable")
    with cast.speaker(cast.edge) as edge, cast.speaker(new) as wearable:
        edge.hear(f"vl/v1/w/{new}/up/+")
        wearable.say(up(new), b"early")

        cast.site.bind(new, cast.edge)
        assert cast.site.refresh().reloaded

        assert until(lambda: wearable.say(up(new), b"bound") == TAKEN and edge.heard != [])
        assert edge.heard[0] == Heard(up(new), b"bound")
        assert until(lambda: edge.say(f"vl/v1/w/{new}/down") != NOT_AUTHORIZED)


def test_what_waits_for_a_sleeping_edge_outlives_a_refresh_and_a_restart(tmp_path: Path) -> None:
    with a_secured_site(tmp_path) as site:
        worn, edge, more = site.new_device("wearable"), site.new_device("edge"), site.new_device("wearable")
        site.bind(worn, edge)
        site.begin()
        with site.speaker(edge, sleeps=True) as awake:
            awake.hear(f"vl/v1/w/{worn}/up/+")

        with site.speaker(worn) as wearable:
            assert wearable.say(up(worn), b"one") == TAKEN
            site.bind(more, edge)
            assert site.refresh().reloaded
            assert wearable.say(up(worn), b"two") == TAKEN
        site.broker.stop()
        site.broker.start()

        with site.speaker(edge, sleeps=True) as awake:
            assert until(lambda: len(awake.heard) == 2)
            assert [one.payload for one in awake.heard] == [b"one", b"two"]


def test_a_new_certificate_of_the_broker_is_shown_after_a_refresh(cast: Cast) -> None:
    def shown() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", cast.site.broker.port)) as plain,
            cast.site.context(cast.ann).wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return secured.getpeercert(binary_form=True)

    before = shown()
    (cast.site.files.folder / "broker.key").unlink()

    assert cast.site.refresh().changed == ("broker.key", "broker.crt")
    assert until(lambda: shown() != before)

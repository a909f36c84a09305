"""Identities keep to their files, their files keep to their owner, and bindings say who belongs to whom from when."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.wire.sites import AT_MS, DAY_MS, Site, begin, named
from wire.envelope import FrameClass
from wire.errors import BadProvision
from wire.identity import LATE_MS, BindingRecord, Provision, demo_site
from wire.receiver import Opened, Receiver
from wire.sessions import SendSession

HOUR_MS = 3_600_000


def saved(path: Path) -> Provision:
    """A wearable's provision, in a file."""
    provision = demo_site(wearables=1, edges=1, now_ms=AT_MS).wearables[0]
    provision.save(path)
    return provision


# Files


def test_a_provision_comes_back_from_its_file(tmp_path: Path) -> None:
    site = demo_site(wearables=3, edges=1, now_ms=AT_MS)
    edge = site.edges[0]
    edge.directory.revoke(site.wearables[2].me.device_id)
    path = tmp_path / "edge.json"

    edge.save(path)
    loaded = Provision.load(path)

    assert loaded._facts() == edge._facts()
    assert loaded.me.prekeys.keys() == edge.me.prekeys.keys()
    assert loaded.directory.bindings() == edge.directory.bindings()
    revoked = loaded.directory.sender(site.wearables[2].me.device_id)
    assert revoked is not None
    assert revoked.revoked


def test_loaded_identities_can_talk(tmp_path: Path) -> None:
    site = demo_site(wearables=1, edges=1, now_ms=AT_MS)
    site.wearables[0].save(tmp_path / "wearable.json")
    site.edges[0].save(tmp_path / "edge.json")
    wearable = Provision.load(tmp_path / "wearable.json")
    edge = Provision.load(tmp_path / "edge.json")
    assert wearable.recipient is not None
    session = SendSession.open(
        wearable.me, wearable.recipient, binding_id=site.bindings[0].binding_id, frame_class=FrameClass.VITALS,
        number=1, previous=bytes(16), now_ms=AT_MS,
    )  # fmt: skip
    receiver = Receiver(edge.me, edge.directory)

    begin(receiver, session)
    opened = receiver.receive(session.seal(b"SpO2 96")[1], topic_device=None, now_ms=AT_MS, mono_ms=0)

    assert isinstance(opened, Opened)
    assert opened.payload == b"SpO2 96"


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wearable.json"

    saved(path)

    assert path.stat().st_mode & 0o777 == 0o600


def test_saving_over_a_file_that_others_can_read_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "wearable.json"
    path.write_text("{}")
    path.chmod(0o644)

    saved(path)

    assert path.stat().st_mode & 0o777 == 0o600
    Provision.load(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o610, 0o666])
def test_a_file_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "wearable.json"
    saved(path)
    path.chmod(mode)

    with pytest.raises(BadProvision, match=f"chmod 600 {path}"):
        Provision.load(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "nothing.json"

    with pytest.raises(BadProvision, match="has this device been enrolled") as caught:
        Provision.load(path)

    assert str(path) in str(caught.value)


def test_a_folder_is_not_an_identity(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    with pytest.raises(BadProvision, match="cannot be read"):
        Provision.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"not json", b"\xff\xfe", b"[" * 100_000, b'{"device_id": 1}'],
    ids=["empty", "{}", "[]", "null", "text", "bytes", "nested", "number"],
)
def test_garbage_is_refused_by_the_name_of_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wearable.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(BadProvision) as caught:
        Provision.load(path)

    assert str(path) in str(caught.value)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("role"),
        lambda facts: facts.update(role="janitor"),
        lambda facts: facts.update(unknown=1),
        lambda facts: facts.update(device_id="not hex"),
        lambda facts: facts.update(signing_key="00"),
        lambda facts: facts.update(prekeys={"00": "00"}),
        lambda facts: facts.update(not_after_ms="never"),
        lambda facts: facts["senders"].append({}),
        lambda facts: facts["senders"].append({"device_id": 5}),
        lambda facts: facts["senders"][0].pop("revoked"),
        lambda facts: facts["senders"][0].update(public_key="00"),
        lambda facts: facts["bindings"][0].pop("wearable_id"),
        lambda facts: facts["recipient"].pop("prekey"),
        lambda facts: facts["recipient"].update(signing_key="zz"),
    ],
)
def test_a_file_that_lacks_or_twists_a_fact_is_refused_by_its_name(tmp_path: Path, change: Change) -> None:
    path = tmp_path / "edge.json"
    demo_site(wearables=1, edges=1, now_ms=AT_MS).edges[0].save(path)
    facts = json.loads(path.read_bytes())
    change(facts)
    path.write_text(json.dumps(facts))

    with pytest.raises(BadProvision) as caught:
        Provision.load(path)

    assert str(path) in str(caught.value)


def test_no_refusal_shows_a_private_key(tmp_path: Path) -> None:
    path = tmp_path / "wearable.json"
    key = saved(path).me.signing_key.private_bytes_raw().hex()
    path.write_text(path.read_text().replace(key, key[:-1] + "z"))

    with pytest.raises(BadProvision) as caught:
        Provision.load(path)

    assert key[:16] not in str(caught.value)


# Bindings

#   valid from 0          valid to 10 h                 + 14 days
#   |--------------------|-----------------------------|
FROM_MS, TO_MS = AT_MS, AT_MS + 10 * HOUR_MS


def a_binding(valid_to_ms: int | None) -> BindingRecord:
    return BindingRecord(
        binding_id=named("binding"), patient="P0001", bed="1", wearable_id=named("ann"), edge_id=named("edge"),
        valid_from_ms=FROM_MS, valid_to_ms=valid_to_ms,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("began_ms", "now_ms", "admitted"),
    [
        (FROM_MS - 1, FROM_MS - 1, False),
        (FROM_MS, FROM_MS, True),
        (TO_MS, TO_MS, True),
        (TO_MS + 1, TO_MS + 1, False),  # begun after the end
        (FROM_MS, TO_MS + LATE_MS, True),  # begun in time, heard late
        (FROM_MS, TO_MS + LATE_MS + 1, False),
        (0, FROM_MS, True),  # no clock: it began when it was heard
        (0, TO_MS + 1, False),
        (TO_MS + DAY_MS, FROM_MS, True),  # a clock that is ahead: the same
        (TO_MS + 2 * DAY_MS, TO_MS + DAY_MS, False),
    ],
)
def test_a_session_belongs_to_a_binding_that_was_open_when_it_began(began_ms: int, now_ms: int, admitted: bool) -> None:
    assert a_binding(TO_MS).admits(named("ann"), began_ms=began_ms, now_ms=now_ms) is admitted


@pytest.mark.parametrize(
    ("began_ms", "now_ms", "admitted"),
    [(FROM_MS - 1, FROM_MS - 1, False), (FROM_MS, FROM_MS, True), (FROM_MS, FROM_MS + 1_000 * DAY_MS, True)],
)
def test_a_binding_without_an_end_goes_on(began_ms: int, now_ms: int, admitted: bool) -> None:
    assert a_binding(None).admits(named("ann"), began_ms=began_ms, now_ms=now_ms) is admitted


@pytest.mark.parametrize(
    ("sender", "admitted"), [("ann", True), ("edge", True), ("bob", False), ("another edge", False)]
)
def test_a_binding_is_for_its_wearable_and_its_edge(sender: str, admitted: bool) -> None:
    assert a_binding(None).admits(named(sender), began_ms=FROM_MS, now_ms=FROM_MS) is admitted


# The demonstration


def test_wearables_are_shared_out_and_each_edge_knows_only_its_own() -> None:
    site = demo_site(wearables=5, edges=2, now_ms=AT_MS)

    known = [[edge.directory.sender(one.me.device_id) is not None for one in site.wearables] for edge in site.edges]

    assert known == [[True, False, True, False, True], [False, True, False, True, False]]
    assert [len(edge.directory.bindings()) for edge in site.edges] == [3, 2]
    assert [binding.bed for binding in site.bindings] == ["1", "2", "3", "4", "5"]
    assert all(site.ingest.directory.sender(edge.me.device_id) for edge in site.edges)
    assert not any(site.ingest.directory.sender(one.me.device_id) for one in site.wearables)


def test_ids_can_be_compared_between_runs_and_keys_cannot() -> None:
    one, two = (demo_site(wearables=1, edges=1, now_ms=AT_MS).wearables[0].me for _ in range(2))

    assert one.device_id == two.device_id
    assert one.signing_key.private_bytes_raw() != two.signing_key.private_bytes_raw()
    assert one.prekeys.keys() != two.prekeys.keys()


def test_a_session_is_sealed_to_the_newest_prekey() -> None:
    edge = Site().edge
    edge.prekeys[named("newer", 8)] = next(iter(Site().bob.prekeys.values()))

    assert edge.recipient().prekey_id == named("newer", 8)

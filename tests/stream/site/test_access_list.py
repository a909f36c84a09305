"""Mosquitto's access list: which topics wearables, edges and services may publish and read."""

import pytest

from stream.errors import RegistryRefused
from stream.site.access_list import access_list
from wire.identity import BindingRecord

EDGE, EDGE_2, WORN, WORN_2 = bytes([0xE1]) * 16, bytes([0xE2]) * 16, bytes([0xA1]) * 16, bytes([0xA2]) * 16


def bound(wearable: bytes, edge: bytes, binding_id: bytes = b"b" * 16) -> BindingRecord:
    return BindingRecord(
        binding_id=binding_id, patient="P0001", bed="1", wearable_id=wearable, edge_id=edge, valid_from_ms=0
    )


def sections(text: str) -> dict[str, list[str]]:
    """Rules by user; "%u" for the patterns."""
    found: dict[str, list[str]] = {}
    user = "%u"
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rest
        elif word in ("topic", "pattern"):
            found.setdefault(user, []).append(rest)
    return found


class TestAccessList:
    def test_a_wearable_has_its_own_branch_by_pattern(self) -> None:
        text = access_list(edges=[], bindings=[], services=[])

        assert sections(text) == {"%u": ["write vl/v1/w/%u/up/+", "read vl/v1/w/%u/down"]}

    def test_an_edge_hears_the_wearables_bound_to_it_and_no_others(self) -> None:
        found = sections(access_list(edges=[EDGE, EDGE_2], bindings=[bound(WORN, EDGE), bound(WORN_2, EDGE_2)]))

        e, w = EDGE.hex(), WORN.hex()
        assert found[e] == [
            f"write vl/v1/e/{e}/up/1",
            f"write vl/v1/e/{e}/up/3",
            f"read vl/v1/e/{e}/down",
            f"read vl/v1/w/{w}/up/+",
            f"write vl/v1/w/{w}/down",
        ]
        assert found[f"{e}-a"] == [f"write vl/v1/e/{e}/up/2", f"read vl/v1/e/{e}/down-a"]

    def test_a_wearable_that_is_bound_twice_has_one_pair_of_lines(self) -> None:
        twice = [bound(WORN, EDGE), bound(WORN, EDGE, b"c" * 16)]

        assert access_list(edges=[EDGE], bindings=twice) == access_list(edges=[EDGE], bindings=twice[:1])

    def test_the_order_of_facts_does_not_matter(self) -> None:
        one, other = bound(WORN, EDGE), bound(WORN_2, EDGE)

        assert access_list(edges=[EDGE, EDGE_2], bindings=[one, other]) == access_list(
            edges=[EDGE_2, EDGE], bindings=[other, one]
        )

    def test_a_revoked_device_is_denied_every_topic_on_both_lanes_and_no_edge_hears_it(self) -> None:
        found = sections(access_list(edges=[EDGE, EDGE_2], bindings=[bound(WORN, EDGE)], revoked=[WORN, EDGE_2]))

        for name in (WORN.hex(), EDGE_2.hex(), f"{EDGE_2.hex()}-a"):
            assert found[name] == ["deny #"]
        assert not [line for line in found[EDGE.hex()] if WORN.hex() in line]

    def test_the_lanes_of_ingest_are_apart(self) -> None:
        found = sections(access_list(edges=[], bindings=[]))

        assert found["ingest-v"] == ["read vl/v1/e/+/up/1", "read vl/v1/e/+/up/3", "write vl/v1/e/+/down"]
        assert found["ingest-a"] == ["read vl/v1/e/+/up/2", "write vl/v1/e/+/down-a"]
        assert found["monitor"] == ["read $SYS/#"]

    @pytest.mark.parametrize(
        "bad",
        [
            "+", "#", "", "A1" * 16, "a1" * 15, "a1" * 17, "a1" * 15 + "a/", "%u", "a1" * 16 + "\n", b"", b"x" * 15,
            f"{'a1' * 16}-a", f"{'a1' * 16}\nuser ingest-v",
        ],
    )  # fmt: skip
    def test_nothing_but_an_id_gets_in(self, bad: str | bytes) -> None:
        with pytest.raises(RegistryRefused, match="32 lower-case"):
            access_list(edges=[bad], bindings=[])
        with pytest.raises(RegistryRefused, match="32 lower-case"):
            access_list(edges=[], bindings=[], revoked=[bad])

    def test_nothing_but_an_id_gets_in_with_a_binding(self) -> None:
        with pytest.raises(RegistryRefused, match="32 lower-case"):
            access_list(edges=[EDGE], bindings=[bound(b"short", EDGE)])

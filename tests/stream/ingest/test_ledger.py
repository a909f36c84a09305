"""The ledger of ingest: what it keeps, and that files of earlier versions still open."""

from pathlib import Path

import pytest

from stream.embedded.store import Store
from stream.errors import FileUnusable
from stream.ingest.ledger import Ledger
from wire.receiver import SessionRow

SESSION = SessionRow(
    session_id=b"s" * 16, sender=b"e" * 8, info=b"info", hpke=b"hpke", ranges=((0, 4), (7, 9)), last_ms=1_000
)


def test_sessions_rejections_and_facts_survive_a_restart(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ingest.sqlite") as ledger, ledger.transaction():
        ledger.put_sessions([SESSION])
        ledger.count_reject("e1", "replay", 5, 3)
        ledger.note("stored_offset", "17")

    with Ledger(tmp_path / "ingest.sqlite") as ledger:
        assert list(ledger.sessions()) == [SESSION]
        assert ledger.noted("stored_offset") == "17"
        assert ledger.noted("nothing") is None


def test_a_dropped_session_is_forgotten(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ingest.sqlite") as ledger:
        with ledger.transaction():
            ledger.put_sessions([SESSION])
        with ledger.transaction():
            ledger.drop_sessions([SESSION.session_id])

        assert list(ledger.sessions()) == []


def test_a_ledger_of_an_earlier_version_was_an_embedded_store_and_is_converted_once(tmp_path: Path) -> None:
    with Store(tmp_path / "ingest.sqlite") as old, old.transaction():
        old.put_sessions([SESSION])
        old.note("stored_offset", "17")

    for _ in range(2):
        with Ledger(tmp_path / "ingest.sqlite") as ledger:
            assert list(ledger.sessions()) == [SESSION]
            assert ledger.noted("stored_offset") == "17"
    with pytest.raises(FileUnusable, match="has schema none"):
        Store(tmp_path / "ingest.sqlite")


def test_the_store_of_an_embedded_engine_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store, store.transaction():
        store.put_states({"b1": b"a patient"})

    with pytest.raises(FileUnusable, match="is the store of an embedded engine; name another file"):
        Ledger(tmp_path / "store.sqlite")

    with Store(tmp_path / "store.sqlite") as store:
        assert store.state("b1") == b"a patient"


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ingest.sqlite") as ledger, ledger.transaction():
        ledger.note("ledger", "9")

    with pytest.raises(FileUnusable, match="has ledger schema 9, this vitalloom reads 1"):
        Ledger(tmp_path / "ingest.sqlite")

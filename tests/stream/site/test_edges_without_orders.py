"""Who does not accept orders is noted for the doctor, and no longer when it is over."""

from pathlib import Path

from deploy.site_checks import _without_orders
from stream.site.edges_without_orders import (
    EdgeWithoutOrders,
    read_edges_without_orders,
    write_edges_without_orders,
)
from tests.stream.site.registries import Desk


def test_the_doctor_names_the_edge_its_program_and_its_patients(desk: Desk) -> None:
    edge = desk.registry.add_device("edge", label="ward 7 left", who="tester")
    write_edges_without_orders(desk.site.ingest_folder, [EdgeWithoutOrders(edge=edge.hex(), program="0.9.1", stays=3)])
    (found,) = _without_orders(desk.site)
    write_edges_without_orders(desk.site.ingest_folder, [])

    assert "ward 7 left" in found.subject
    assert "0.9.1" in found.result
    assert "3 of its patients" in found.result
    assert _without_orders(desk.site) == []


def test_a_site_without_such_edges_has_no_file(tmp_path: Path) -> None:
    write_edges_without_orders(tmp_path, [])

    assert list(tmp_path.iterdir()) == []
    assert read_edges_without_orders(tmp_path) == []

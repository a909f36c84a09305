"""The process `vitalloom stream`: the plan that was ordered for a binding."""

from pathlib import Path

from runtime.clock import SystemClock
from stream.embedded.process import ordered_plan
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from tests.stream.site.registries import FACTS


def test_the_data_centre_scores_with_the_scale_that_was_ordered(tmp_path: Path) -> None:
    registry = Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester").registry
    edge = registry.add_device("edge", who="tester")
    scales = {}
    for scale in (1, 2):
        wearable = registry.add_device("wearable", who="tester")
        scales[scale] = registry.bind(
            wearable_id=wearable, edge_id=edge, patient=f"P{scale}", bed="1", spo2_scale=scale, who="tester"
        )

    plan_of = ordered_plan(RegistryDirectory(registry))

    found = {scale: plan_of(binding.hex()).spo2_scale for scale, binding in scales.items()}

    assert found == {1: 1, 2: 2}

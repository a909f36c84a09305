"""Random histories of a registry: whoever is admitted is watched, nobody twice, and every edge knows the same."""

import random
from collections import Counter
from pathlib import Path

import pytest

from stream.errors import RegistryRefused
from stream.site.directory import CHECK_EVERY_MS, RegistryDirectory
from tests.stream.site.registries import DAY, HOUR, MINUTE, Desk
from wire.binding_periods import BindingPeriods
from wire.enrol.wallet import Wallet
from wire.identity import About, BindingRecord

STEPS = 60
PATIENTS = ("P1", "P2", "P3", "P4")
BEDS = ("1", "2", "3", "")


class History:
    """A registry in which somebody does one thing after another, and the two who judge by what they are told."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.desk = Desk(folder)
        self.registry = self.desk.registry
        self.edges = [self.desk.enrol("edge") for _ in range(2)]
        self.wearables = [self.registry.add_device("wearable", label=f"w{n}", who="tester") for n in range(5)]
        self.directory = RegistryDirectory(self.registry)
        self.periods = BindingPeriods(self.directory)
        self.ended: dict[str, bool] = {}  # what a place that judges knows of each stay
        self.refused = 0

    def step(self) -> None:
        self.desk.clock.advance(self.draw.choice((0, MINUTE, HOUR, DAY)))
        deeds = (self.bind, self.bind, self.bind, self.unbind, self.exchange, self.admit, self.move, self.discharge)
        try:
            self.draw.choice((*deeds, self.facts))()
        except RegistryRefused:
            self.refused += 1

    def bind(self) -> None:
        self.registry.bind(
            wearable_id=self.draw.choice(self.wearables),
            edge_id=self.draw.choice(self.edges).me.device_id,
            patient=self.draw.choice(PATIENTS),
            bed=self.draw.choice((None, *BEDS)),
            who="tester",
        )

    def unbind(self) -> None:
        self.registry.unbind(self._open().binding_id, who="tester", stay_open=self.draw.random() < 0.3)

    def exchange(self) -> None:
        edge = self.draw.choice((None, *(one.me.device_id for one in self.edges)))
        new = self.draw.choice(self.wearables)
        self.registry.exchange(self._open().binding_id, wearable_id=new, edge_id=edge, who="tester")

    def admit(self) -> None:
        self.registry.admit(self.draw.choice(PATIENTS), bed=self.draw.choice(BEDS), who="tester")

    def move(self) -> None:
        stay = self.registry.stays.find_open(self.draw.choice(PATIENTS))
        self.registry.move(stay.stay_id, bed=self.draw.choice(BEDS), who="tester")

    def facts(self) -> None:
        stay = self.registry.stays.find_open(self.draw.choice(PATIENTS))
        about = About(age_years=float(self.draw.randint(1, 90)))
        self.registry.state_facts(stay.stay_id, about=about, spo2_scale=self.draw.choice((1, 2)), who="tester")

    def discharge(self) -> None:
        self.registry.discharge(self.registry.stays.find_open(self.draw.choice(PATIENTS)).stay_id, who="tester")

    def _open(self) -> BindingRecord:
        found = [one for one in self.registry.bindings() if one.valid_to_ms is None and any(one.wearable_id)]
        if not found:
            raise RegistryRefused("nothing is bound")
        return self.draw.choice(found)

    def tell(self) -> None:
        """Whoever judges is told what is due; a period without a stay that goes on ends the stay."""
        self.desk.clock.advance(2 * CHECK_EVERY_MS)
        self.directory.refresh(self.desk.clock.mono_ms())
        found = self.periods.due(self.desk.clock.now_ms(), self.desk.clock.mono_ms())
        self.periods.told(found, self.desk.clock.mono_ms())
        for one in found:
            over = one.to_ms is not None and not one.stay_goes_on
            self.ended[one.stay_id] = self.ended.get(one.stay_id, False) or over

    # What has to be true

    def check_registry(self) -> None:
        stays = self.registry.stays.open()
        assert max(Counter(one.patient for one in stays).values(), default=0) <= 1
        assert max(Counter(one.bed for one in stays if one.bed).values(), default=0) <= 1
        worn = [one for stay in stays for one in self.registry.open_bindings_of(stay.stay_id)]
        assert max(Counter(one.wearable_id for one in worn).values(), default=0) <= 1
        assert {one.binding_id for one in worn} == {
            one.binding_id for one in self.registry.bindings() if one.valid_to_ms is None and any(one.wearable_id)
        }

    def check_who_judges(self) -> None:
        watched = {stay_id for stay_id, over in self.ended.items() if not over}
        assert watched == {one.stay_id.hex() for one in self.registry.stays.open()}

    def check_edge(self, edge: Wallet) -> None:
        """Documents come in any order; what the edge knows of a stay is then what the registry says."""
        documents = self.registry.documents.documents_for(edge.me.device_id)
        for frame in self.draw.sample(documents, len(documents)):
            edge.accept(frame)
        assert edge.digest == self.registry.documents.digest_for(edge.me.device_id)
        there = edge.provision.directory
        for stay_id in {one.stay_id for one in there.bindings()}:
            known = there.of_stay(stay_id)
            for one in {known[-1], *(one for one in known if one.valid_to_ms is None)}:
                said = self.registry.binding(one.binding_id)
                assert said is not None
                for field in set(BindingRecord.__struct_fields__) - {"device_name"}:
                    assert getattr(one, field) == getattr(said, field), field


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_admitted_is_watched_and_every_edge_knows_the_same(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path, seed)

    for _ in range(STEPS):
        history.step()
        history.tell()
        history.check_registry()
        history.check_who_judges()
        for edge in history.edges:
            if history.draw.random() < 0.5:
                history.check_edge(edge)

    assert 0 < history.refused < STEPS
    assert len(history.ended) > 3

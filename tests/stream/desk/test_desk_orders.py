"""What is ordered for a patient decides who is called: another ladder, nobody, or nobody at night; never by mistake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.desk.desk import AlarmDesk, Place
from stream.desk.notify import Addresses
from tests.stream.desk.alarms import AMBER, CYAN, MINUTE, NOW, RED, an_id, told
from tests.stream.desk.test_desk import Night, lived
from tests.stream.ordered import orders
from vitals.errors import BadPlan
from vitals.escalation import EscalationPolicy, EscalationStep, Ladder, RuleLadders
from vitals.messages import Priority
from vitals.orders import Orders

HOUR = 60 * MINUTE
ANNA = [("anna", "push")]
OBSERVE = "[call]\n" + "".join(f'{one} = "observe"\n' for one in ("high", "medium", "low", "technical"))


def ladder(who: str, *, delay_ms: int = 0) -> Ladder:
    return Ladder(steps=(EscalationStep(delay_ms=delay_ms, who=who, channels=("push",)),), repeat_ms=HOUR)


POLICY = EscalationPolicy(
    high=ladder("nurse"),
    medium=ladder("nurse"),
    low=ladder("nurse"),
    named={"renal": RuleLadders(high=ladder("lead"), medium=ladder("lead"))},
)


class OrderedNight(Night):
    """A desk that knows what is ordered for its one patient."""

    def __init__(self, folder: Path, **wishes: Any) -> None:
        self.ordered: Orders | None = None
        super().__init__(folder, **{"policy": POLICY, **wishes})

    def wake(self) -> None:
        super().wake()
        self.desk = AlarmDesk(
            self.config,
            self.book,
            Addresses(self.config.addresses),
            self.clock,
            notifier=self.channels,
            place_of=lambda _: Place("12", "P-1"),
            orders_of=lambda _: self.ordered,
        )

    def says(self) -> str:
        """What the list says about the orders of its alarm."""
        (standing,) = self.desk.standing()
        return standing.ordered


@pytest.fixture
def night(tmp_path: Path) -> Iterator[OrderedNight]:
    made = OrderedNight(tmp_path)
    yield made
    made.book.close()


def test_an_ordered_ladder_calls_and_the_message_says_so(night: OrderedNight) -> None:
    night.ordered = orders(7, '[call]\nhigh = "renal"\n')

    async def story() -> None:
        night.hear(told())
        await night.pass_time(MINUTE)

    lived(story)

    assert night.channels.calls == [("dora", "push")]
    assert 'By order the ladder "renal" calls' in night.channels.sent[0][2].body


def test_without_orders_the_message_says_nothing_of_them(night: OrderedNight) -> None:
    async def story() -> None:
        night.hear(told())
        await night.pass_time(MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push")]
    assert "order" not in night.channels.sent[0][2].body.lower()


def test_a_ladder_that_the_desk_does_not_have_calls_by_that_of_the_site(night: OrderedNight) -> None:
    night.ordered = orders(7, '[call]\nhigh = "nobody_has_it"\n')

    async def story() -> None:
        night.hear(told())
        await night.pass_time(MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push")]
    assert "does not know" in night.channels.sent[0][2].body


@pytest.mark.slow
def test_observe_lists_an_alarm_and_calls_nobody(night: OrderedNight) -> None:
    night.ordered = orders(7, OBSERVE)

    async def story() -> None:
        night.hear(told())
        await night.pass_time(HOUR)
        assert [one.calls for one in night.desk.standing()] == [False]
        assert night.says() == "Ordered: observe, do not call"

    lived(story)

    assert night.channels.calls == []


@pytest.mark.slow
def test_an_order_to_observe_stops_calls_that_are_under_way(night: OrderedNight) -> None:
    async def story() -> None:
        night.channels.broken.add("push")  # it is tried again and again
        night.hear(told())
        await night.pass_time(MINUTE)
        night.ordered = orders(7, OBSERVE)
        await night.pass_time(0)
        before = len(night.channels.tried)
        await night.pass_time(HOUR)
        assert before > 0
        assert len(night.channels.tried) == before

    lived(story)


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [False, True])
def test_when_observing_ends_people_are_called(night: OrderedNight, restarts: bool) -> None:
    night.ordered = orders(7, OBSERVE)

    async def story() -> None:
        night.hear(told())
        await night.pass_time(HOUR)
        if restarts:
            night.wake()
        night.ordered = orders(8)
        await night.pass_time(MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push")]


@pytest.mark.parametrize(
    ("priority", "called"),
    [(CYAN, []), (AMBER, [("anna", "push")]), (RED, [("anna", "push")])],
)
def test_quiet_hours_are_for_alarms_of_low_priority_alone(
    night: OrderedNight, priority: Priority, called: list[tuple[str, str]]
) -> None:
    night.ordered = orders(7, '[quiet]\nfrom = "22:00"\nto = "23:00"\n')

    async def story() -> None:
        night.hear(told(priority=priority))
        await night.pass_time(MINUTE)

    lived(story)

    assert night.channels.calls == called


def test_after_quiet_hours_a_low_alarm_that_still_stands_calls(night: OrderedNight) -> None:
    minute = NOW // MINUTE % 1_440
    ends = f"{(minute + 10) // 60 % 24:02d}:{(minute + 10) % 60:02d}"
    begins = f"{(minute - 10) // 60 % 24:02d}:{(minute - 10) % 60:02d}"
    night.ordered = orders(7, f'[quiet]\nfrom = "{begins}"\nto = "{ends}"\n')

    async def story() -> None:
        night.hear(told(priority=CYAN))
        await night.pass_time(9 * MINUTE)
        assert night.channels.calls == []
        assert "quiet hours" in night.says()
        await night.pass_time(2 * MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_quiet_hours_are_those_of_the_site(tmp_path: Path) -> None:
    night = OrderedNight(tmp_path, time_zone="Asia/Tokyo")
    hour = (NOW // HOUR + 9) % 24
    night.ordered = orders(7, f'[quiet]\nfrom = "{hour:02d}:00"\nto = "{(hour + 1) % 24:02d}:00"\n')

    async def story() -> None:
        night.hear(told(priority=CYAN))
        await night.pass_time(MINUTE)

    lived(story)
    night.book.close()

    assert night.channels.calls == []


def test_an_answer_is_possible_while_an_order_says_observe(night: OrderedNight) -> None:
    night.ordered = orders(7, OBSERVE)

    async def story() -> None:
        night.hear(told())
        await night.pass_time(0)
        night.desk.acknowledge(an_id(), by="anna", revision=0)

    lived(story)

    assert night.desk.standing()[0].kept.is_answered


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"renal": RuleLadders()}, "named.renal: has no ladder"),
        ({"renal": RuleLadders(high=ladder("lead", delay_ms=MINUTE))}, "named.renal.high"),
        ({"renal": RuleLadders(high=Ladder())}, "named.renal.high"),
    ],
)
def test_a_named_ladder_of_red_alarms_begins_at_once(named: dict[str, RuleLadders], says: str) -> None:
    with pytest.raises(BadPlan, match=says):
        EscalationPolicy(named=named).check()


def test_a_named_ladder_leaves_the_other_priorities_as_they_are() -> None:
    found = POLICY.with_ladder("renal")

    assert found.ladder(RED).steps[0].who == "lead"
    assert found.ladder(AMBER, "news2").steps[0].who == "lead"
    assert found.ladder(CYAN).steps[0].who == "nurse"

"""What holds at the desk whatever happens: who is called, when, and that no open alarm is skipped.

Random stories with seeds. Each is told against a book in a folder, with a clock that the test moves.
"""

import random
from pathlib import Path
from typing import Any, Final

import pytest

from stream.desk.ports import SourceRecord
from tests.stream.desk.alarms import AMBER, MINUTE, RED, SECOND, an_id, told
from tests.stream.desk.test_desk import Night, lived
from vitals.escalation import EscalationPolicy, EscalationStep, Ladder
from vitals.messages import AlarmState, Priority

PEOPLE: Final = ("anna", "ben", "dora", "eve", "finn", "gwen", "hugo", "ida", "jan", "kim", "lea", "max")
ROLES: Final = ("nurse", "second", "lead", "everyone")
HOUR: Final = 60 * MINUTE
QUICK: Final = EscalationPolicy(
    high=Ladder(
        steps=(
            EscalationStep(delay_ms=0, who="nurse", channels=("push",)),
            EscalationStep(delay_ms=30 * SECOND, who="second", channels=("push",)),
        ),
        repeat_ms=MINUTE,
    ),
    receipt_ms={"push": 10 * SECOND},
)


def a_night(folder: Path, **wishes: Any) -> Night:
    night = Night(folder, **wishes)
    path = night.config.addresses
    ways = "".join(f'{way} = "json://localhost/{way}"\n' for way in ("push", "sms", "call"))
    path.write_text("".join(f"[{person}]\n{ways}" for person in PEOPLE), encoding="utf-8")
    night.wake()
    return night


def a_shift(draw: random.Random) -> dict[str, tuple[str, ...]]:
    return {role: tuple(draw.sample(PEOPLE, draw.randint(1, 2))) for role in ROLES}


# Roles are resolved at each attempt


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_every_attempt_goes_to_who_has_the_role_at_that_moment(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    night = a_night(tmp_path)
    roles = a_shift(draw)

    async def story() -> None:
        nonlocal roles
        night.set_roles(roles)
        night.hear(told(1, priority=draw.choice((AMBER, RED)), stay_id=f"{1:032x}"))
        for _ in range(25):
            step = draw.choice(("shift", "break", "pass", "pass", "wake"))
            if step == "shift":
                roles = a_shift(draw)
                night.set_roles(roles)
            elif step == "break":
                night.channels.broken = set(draw.sample(["push", "sms", "call"], draw.randint(0, 3)))
            elif step == "wake":
                night.wake()
                night.set_roles(roles)
            for _ in range(draw.choice((1, 20, 40))):
                before = len(night.channels.tried)
                await night.pass_time(SECOND)
                may_be_called = {person for people in roles.values() for person in people}
                assert {person for person, _ in night.channels.tried[before:]} <= may_be_called

    lived(story)
    night.book.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_who_has_the_role_of_a_step_that_is_due_was_called_or_is_being_tried(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    night = a_night(tmp_path)
    priority = draw.choice((AMBER, RED))
    ladder = EscalationPolicy().ladder(priority)

    async def story() -> None:
        roles = a_shift(draw)
        night.set_roles(roles)
        night.hear(told(1, priority=priority))
        passed_ms = 0
        for _ in range(6):
            for _ in range(draw.choice((5, 60, 300))):
                await night.pass_time(SECOND)
                passed_ms += SECOND
            roles = a_shift(draw)
            night.set_roles(roles)
            await night.pass_time(SECOND)
            passed_ms += SECOND
            due = [step for step in ladder.steps if step.delay_ms <= passed_ms]
            called = {person for person, _ in night.channels.calls}
            assert {person for step in due for person in roles[step.who]} <= called

    lived(story)
    night.book.close()


@pytest.mark.parametrize(("priority", "after_ms"), [(RED, 30 * SECOND), (AMBER, 15 * MINUTE)])
def test_at_a_change_of_shift_who_comes_is_called_at_once_and_who_leaves_no_more(
    tmp_path: Path, priority: Priority, after_ms: int
) -> None:
    night = a_night(tmp_path)
    shift = {"nurse": ("anna",), "second": ("ben",), "lead": ("dora",), "everyone": ("anna", "ben", "dora")}

    async def story() -> None:
        night.channels.broken = {"push", "sms", "call"}
        night.set_roles(shift)
        night.hear(told(priority=priority))
        await night.pass_time(after_ms)
        night.channels.broken = set()
        night.channels.tried.clear()
        night.set_roles(shift | {"nurse": ("eve",)})
        await night.pass_time(SECOND)
        assert {person for person, _ in night.channels.calls} == {"eve"}
        await night.pass_time(MINUTE)
        assert "anna" not in {person for person, _ in night.channels.tried}

    lived(story)
    night.book.close()


# Ladders run by elapsed time


def steady_calls(folder: Path, *, seed: int | None, minutes: int = 8) -> list[tuple[int, str]]:
    """Real seconds at which people were called; with a seed the wall clock steps and desk and machine restart."""
    folder.mkdir()
    night = a_night(folder, policy=QUICK)
    draw = random.Random(seed)
    found: list[tuple[int, str]] = []

    async def story() -> None:
        night.hear(told())
        for second in range(minutes * 60):
            if seed is not None and draw.random() < 0.05:
                step_ms = draw.choice((-1, 1)) * draw.choice(
                    (300, 4 * SECOND, 7 * MINUTE, HOUR, 24 * HOUR, 9_000 * HOUR)
                )
                night.clock.set_wall(night.clock.now_ms() + step_ms)
            if seed is not None and draw.random() < 0.01:
                night.wake()
                night.set_roles({"nurse": ("anna",), "second": ("ben",)})
            before = len(night.channels.sent)
            await night.pass_time(SECOND)
            found.extend((second, person) for person, _, _ in night.channels.sent[before:])

    lived(story)
    night.book.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_steps_of_the_wall_clock_change_no_call(tmp_path: Path, seed: int) -> None:
    assert steady_calls(tmp_path / "steps", seed=seed) == steady_calls(tmp_path / "steady", seed=None)


@pytest.mark.slow
@pytest.mark.parametrize("step_ms", [-24 * HOUR, -HOUR, -7 * MINUTE, -6 * SECOND, 6 * SECOND, 7 * MINUTE, HOUR])
def test_a_restart_of_the_machine_with_a_wrong_clock_delays_no_call_by_more_than_a_round(
    tmp_path: Path, step_ms: int
) -> None:
    night = a_night(tmp_path, policy=QUICK)

    async def story() -> None:
        night.hear(told())
        await night.pass_time(5 * MINUTE)
        night.clock.restart_machine()
        night.clock.set_wall(night.clock.now_ms() + step_ms)
        night.wake()
        night.set_roles({"nurse": ("anna",), "second": ("ben",)})
        before = len(night.channels.sent)
        await night.pass_time(MINUTE)
        called = [person for person, _, _ in night.channels.sent[before:]]
        assert 1 <= len(called) <= 2
        await night.pass_time(10 * MINUTE)
        assert 10 <= len(night.channels.sent) - before - len(called) <= 11

    lived(story)
    night.book.close()


@pytest.mark.parametrize("step_ms", [-24 * HOUR, -HOUR, -7 * MINUTE, 7 * MINUTE, HOUR, 24 * HOUR])
def test_a_silence_lasts_as_long_as_was_said_whatever_the_wall_clock_says(tmp_path: Path, step_ms: int) -> None:
    night = a_night(tmp_path, policy=QUICK)

    async def story() -> None:
        night.hear(told())
        silence = night.desk.silence(an_id(), by="anna", minutes=10, revision=0)
        night.hear(told(revision=1, silenced_until_ms=silence.told_until_ms))  # the patient's record shows it
        await night.pass_time(5 * MINUTE)
        night.clock.set_wall(night.clock.now_ms() + step_ms)
        night.hear(told(revision=2, text="another value", silenced_until_ms=silence.told_until_ms))
        await night.pass_time(5 * MINUTE - SECOND)
        assert night.channels.sent == []
        await night.pass_time(2 * SECOND)
        assert night.channels.calls == [("anna", "push")]

    lived(story)
    night.book.close()


# A place in a log includes which log


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_every_alarm_that_is_open_in_a_log_that_was_made_again_is_called_unless_it_was_answered(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    night = a_night(tmp_path, policy=QUICK)

    def record(number: int, revision: int, **changes: Any) -> SourceRecord:
        alarm = told(number, revision=revision, rule_id=f"rule{number}", **changes)
        return SourceRecord("alarms", 0, revision, alarm, mark=bytes([number, revision]))

    async def story() -> None:
        answered: dict[int, Priority] = {}
        for number in range(1, 6):
            newest = draw.randint(0, 6)
            priority = draw.choice((AMBER, RED))
            for revision in range(newest + 1):
                state = draw.choice((AlarmState.ACTIVE, AlarmState.ACTIVE, AlarmState.CLEARED))
                night.desk.hear([record(number, revision, state=state, priority=priority)])
            if state is AlarmState.ACTIVE and draw.random() < 0.5:
                night.desk.acknowledge(an_id(number), by="anna", revision=newest)
                answered[number] = priority
        await night.pass_time(draw.choice((0, 5, 90)) * SECOND)
        night.wake()
        before = len(night.channels.sent)
        # The log was made again, or is an earlier backup: the same alarms, with revisions that count anew.
        now: dict[int, tuple[AlarmState, Priority]] = {}
        batch = []
        for number in draw.sample(range(1, 8), 5):
            for revision in range(draw.randint(1, 4)):
                now[number] = (draw.choice((AlarmState.ACTIVE, AlarmState.CLEARED)), RED)
                batch.append(record(number, revision, state=now[number][0], priority=RED))
        night.desk.hear(batch, is_another_log=True)
        night.set_roles({"nurse": ("anna",), "second": ("ben",)})
        await night.pass_time(2 * MINUTE)
        unanswered = {
            number
            for number, (state, priority) in now.items()
            if state is AlarmState.ACTIVE and answered.get(number, Priority.LOW) < priority
        }
        sent = "".join(message.body for _, _, message in night.channels.sent[before:])
        for number in now:
            if number in unanswered:
                assert f"Alarm {an_id(number).hex()[:8]}" in sent, number
            elif now[number][0] is AlarmState.ACTIVE:
                assert f"Alarm {an_id(number).hex()[:8]}" not in sent, number

    lived(story)
    night.book.close()


# Silences


@pytest.mark.parametrize("seed", range(20))
def test_a_silence_at_the_desk_hides_no_other_condition(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    night = a_night(tmp_path, policy=QUICK)
    conditions = [("red_sign", "heart_rate"), ("red_sign", "spo2"), ("red_sign", ""), ("news2", ""), ("news2", "x")]

    async def story() -> None:
        for number, (rule_id, key) in enumerate(conditions):
            night.hear(told(number, rule_id=rule_id, key=key))
        silenced = set(draw.sample(range(len(conditions)), draw.randint(1, 4)))
        for number in silenced:
            night.desk.silence(an_id(number), by="anna", minutes=30, revision=0)
        if draw.random() < 0.5:
            night.wake()
        calling = {one.kept.alarm.alarm_id for one in night.desk.standing() if one.calls}
        assert calling == {an_id(number) for number in range(len(conditions)) if number not in silenced}
        await night.pass_time(SECOND)
        assert len(night.channels.sent) == len(calling)

    lived(story)
    night.book.close()


def test_a_wrong_clock_is_an_alarm_of_the_desk_itself_until_it_is_right_again(tmp_path: Path) -> None:
    night = a_night(tmp_path)

    async def story() -> None:
        await night.pass_time(MINUTE)
        assert night.desk.standing() == []
        night.clock.set_wall(night.clock.now_ms() - HOUR)
        await night.pass_time(SECOND)
        (one,) = night.desk.standing()
        assert (one.kept.alarm.rule_id, one.kept.alarm.priority) == ("desk_clock", AMBER)
        assert "was set back by 3600 s" in one.kept.alarm.text
        await night.pass_time(14 * MINUTE)
        night.clock.set_wall(night.clock.now_ms() + HOUR)
        await night.pass_time(SECOND)
        assert night.desk.standing() == []
        night.desk.clock_watch.hear(night.clock.now_ms() - 7 * MINUTE)
        await night.pass_time(15 * MINUTE + SECOND)
        ((_, _, message),) = night.channels.sent
        assert message.title == "** medium technical alarm, the alarm desk"
        assert "420 s ahead of that of the alarm log" in message.body
        (one,) = night.desk.standing()
        night.desk.acknowledge(one.kept.alarm.alarm_id, by="anna", revision=0)
        assert night.desk.to_pass_on() == []

    lived(story)
    night.book.close()

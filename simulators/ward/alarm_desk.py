"""The alarm desk of a ward: the real desk on the ward's engine, with made-up people and their demonstration phones.

Its clock is the ward's, so its messages name simulated times. Its ladder is short, and the same in real time at every
speed, so that a person at the terminal has time to answer and can watch what happens if nobody does.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from simulators.broker import LOOPBACK, free_port
from simulators.phone import AlarmNow, Phone, PhoneMessage
from simulators.ward.calls import Calls
from simulators.ward.data_centre import DataCentre
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.screen import time_of_day
from simulators.ward.setup import WardSetup
from stream.config import DeskApiConfig, DeskConfig, DeskHttpConfig
from stream.desk.client import DeskClient, Login
from stream.desk.desk import Place
from stream.desk.process import DeskProcess, opened_desk, users_of
from stream.embedded.desk_ports import EngineEntrySink, StoreAlarmSource
from stream.errors import DeskCommandFailed
from stream.records import ObservationRecord
from vitals.escalation import NEWS2_RULE, EscalationPolicy, EscalationStep, Ladder, RuleLadders

PEOPLE: Final = {"anna": "nurse", "ben": "second nurse", "carla": "lead"}
"""Made-up people, and what they are."""
ROLES: Final = {"nurse": ("anna",), "second": ("ben",), "lead": ("carla",), "everyone": tuple(PEOPLE)}
YOU: Final = "anna"
"""Whose login the person at the terminal uses."""
RUNG_S: Final = 15.0
"""Real seconds from one step of the ladder to the next."""

_CHANNEL: Final = "push"
_FOLLOW_S: Final = 0.25
_YEARS_H: Final = 1_000_000.0  # a simulated ward may play years; the login ends with it


def policy(speed: float) -> EscalationPolicy:
    """The ladder of a ward, with delays in simulated milliseconds.

    Args:
        speed: simulated seconds per real second, at most.
    """

    def ladder(first: int, second: int, lead: int, everyone: int, repeat: int) -> Ladder:
        rungs = {"nurse": first, "second": second, "lead": lead, "everyone": everyone}
        return Ladder(
            steps=tuple(
                EscalationStep(delay_ms=_ms(rung), who=role, channels=(_CHANNEL,)) for role, rung in rungs.items()
            ),
            repeat_ms=_ms(repeat),
        )

    def _ms(rungs: int) -> int:
        return round(rungs * RUNG_S * 1_000 * speed)

    return EscalationPolicy(
        high=ladder(0, 1, 2, 3, 2),
        medium=ladder(2, 4, 6, 8, 8),
        rules={NEWS2_RULE: RuleLadders(medium=ladder(0, 2, 4, 6, 8))},
        receipt_ms={_CHANNEL: max(_ms(1), 1)},
    )


class AlarmDeskPart(WardPart):
    """Runs the desk, serves the phones, and keeps up with who was called and who answered.

    Args:
        announce: called with a line for each call, answer and silence.
    """

    def __init__(
        self, setup: WardSetup, data_centre: DataCentre, *, announce: Callable[[str], None] | None = None
    ) -> None:
        self.calls = Calls()
        self._clock = setup.clock
        self._folder = setup.folder.resolve() / "desk"
        self._speed = setup.options.speed
        self._ports = setup.options.desk_port or free_port(), setup.options.phone_port
        self._source = StoreAlarmSource(setup.store)
        self._sink = EngineEntrySink(data_centre.stream)
        self._orders_of = data_centre.orders_of
        self._places = {one.stay: Place(one.bed, one.patient) for one in setup.site.bindings}
        self._announce = announce
        self._process: DeskProcess | None = None
        self._phone: Phone | None = None
        self._clients: dict[str, DeskClient] = {}
        self._stays = setup.site.stays

    async def start(self, lifetime: Lifetime) -> None:
        lifetime.run(self._run(), name="alarm desk")

    @property
    def is_ready(self) -> bool:
        return self._process is not None and bool(self._process.url)

    @property
    def login_file(self) -> Path:
        """The login of the person at the terminal."""
        return self._folder / f"{YOU}.login"

    def hints(self) -> list[Text]:
        """How a person answers: the page, and the command to paste into another terminal."""
        if self._phone is None:
            return []
        return [
            Text.assemble(("phones   ", "dim"), self._phone.url),
            Text.assemble(("answer   ", "dim"), f"{_command()} alarms --login-file {self.login_file} list"),
            Text.assemble(("         ", "dim"), "(or: ... ack ALARM, ... silence ALARM, or the button on the page)"),
        ]

    def client(self, person: str) -> DeskClient:
        """The desk's API as one of the made-up people uses it."""
        return self._clients[person]

    @property
    def unsent_observations(self) -> int:
        """Observations that people entered and that the data centre does not have yet."""
        if self._process is None:
            return 0
        return sum(isinstance(one.entry, ObservationRecord) for one in self._process.desk.to_pass_on())

    async def _run(self) -> None:
        desk_port, phone_port = self._ports
        config = self._config(desk_port)
        config.data.mkdir(mode=0o700)
        users_of(config).put_without_password(*PEOPLE, now_ms=self._clock.now_ms())
        url = f"http://{config.api.listen}"
        with Phone(
            LOOPBACK, phone_port, on_message=_ignore, people=PEOPLE,
            now_s=lambda: self._clock.now_ms() / 1_000, time_text=_ward_time,
        ) as phone:  # fmt: skip
            _write_addresses(config.addresses, phone)
            with opened_desk(
                config, None, self._source, self._sink, self._clock,
                place_of=lambda stay_id: self._places.get(stay_id, Place()),
                patients=lambda: len(self._places),
                stays=self._stays,
                orders_of=self._orders_of,
            ) as process:  # fmt: skip
                logins = {person: Login(url, process.door.admit(person)[0]) for person in PEOPLE}
                logins[YOU].write(self.login_file)
                phone.answering = PhoneAnswers(url, {person: login.token for person, login in logins.items()})
                self._clients = {person: DeskClient(url, token=login.token) for person, login in logins.items()}
                self._phone, self._process = phone, process
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(process.run(), name="alarm desk: serve")
                    tasks.create_task(self._follow(process), name="alarm desk: follow")

    async def _follow(self, process: DeskProcess) -> None:
        while True:
            for line in self.calls.update(process.desk.standing()):
                if self._announce is not None:
                    self._announce(line)
            await asyncio.sleep(_FOLLOW_S)

    def _config(self, port: int) -> DeskConfig:
        return DeskConfig(
            data=self._folder,
            addresses=self._folder / "addresses.toml",
            roles=dict(ROLES),
            policy=policy(self._speed),
            receipts=(_CHANNEL,),
            detail="values",  # nobody is real
            api=DeskApiConfig(
                listen=f"{LOOPBACK}:{port}",
                session_hours=_YEARS_H,
                longest_silence_minutes=1_440,
                entries_per_minute=1_000_000,
            ),
            http=DeskHttpConfig(listen=""),
        )


class PhoneAnswers:
    """Answers for the people of the phones, over the desk's API; see `simulators.phone.Answering`.

    Args:
        tokens: by person.
    """

    def __init__(self, url: str, tokens: Mapping[str, str]) -> None:
        self._clients = {person: DeskClient(url, token=token) for person, token in tokens.items()}

    def alarms(self) -> Mapping[str, AlarmNow] | None:
        try:
            found: dict[str, Any] = self._clients[YOU].alarms(dict[str, Any])
        except DeskCommandFailed:
            return None
        return {
            one["id"][:8]: AlarmNow(
                alarm_id=one["id"], revision=one["revision"], text=one["text"],
                answered_by=one["acknowledged_by"] or "", is_calling=one["calling"],
            )
            for one in found["alarms"]
        }  # fmt: skip

    def answer(self, person: str, alarm_id: str, revision: int) -> str:
        client = self._clients.get(person)
        if client is None or len(alarm_id) != 32 or not alarm_id.isalnum():
            return "The owner of this phone is not a user who may answer alarms."
        try:
            client.acknowledge(alarm_id, revision=revision)
        except DeskCommandFailed as error:
            return f"Not answered: {error}"
        return ""


def _write_addresses(path: Path, phone: Phone) -> None:
    lines = [f'[{person}]\n{_CHANNEL} = "{phone.address_of(person)}"\n' for person in PEOPLE]
    path.touch(mode=0o600)
    path.write_text("".join(lines), encoding="utf-8")


def _command() -> str:
    """How this program was called, as far as another terminal in the same folder can call it."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "vitalloom" else f"{sys.executable} -m vitalloom"


def _ward_time(at_s: float) -> str:
    return f"{time_of_day(round(at_s * 1_000))} UTC"


def _ignore(_message: PhoneMessage) -> None:
    """The page shows it."""

"""An address that names several recipients is several deliveries, each with its own status, retries and receipt."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stream.desk.notify import Address, Addresses, Notifier
from stream.desk.texts import Message
from stream.errors import DeskUnusable, NotificationNotAccepted
from tests.patience import PATIENCE_S
from tests.services.receivers import webhooks
from tests.stream.desk.alarms import AMBER, MINUTE, SECOND, told
from tests.stream.desk.test_desk import Night, lived
from vitals.messages import Priority

THREE = "json://localhost/a, json://localhost/b json://localhost/c"


def addresses(folder: Path, text: str) -> Addresses:
    path = folder / "addresses.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return Addresses(path)


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("json://localhost/a", 1),
        (THREE, 3),
        ("mailto://u:p@mail.example?to=a@x.example,b@x.example", 2),
        ("mailto://u:p@mail.example?to=a@x.example&cc=b@x.example&bcc=c@x.example", 3),
        ("ntfys://ntfy.example/one/two", 2),
        ("mqtt://localhost/ward/one,two", 2),
        ("json://localhost/a, ntfys://ntfy.example/one/two", 3),
    ],
)
def test_each_recipient_is_an_address_with_a_service_of_its_own(tmp_path: Path, url: str, number: int) -> None:
    found = addresses(tmp_path, f'[anna]\npush = "{url}"')

    found.check()

    recipients = found.recipients("anna", "push")
    assert len({one.recipient for one in recipients}) == len(recipients) == number
    assert all(found.recipient("anna", "push", one.recipient) == one for one in recipients)
    assert ("recipient 1 of" in repr(recipients[0])) is (number > 1)
    assert "example/" not in repr(recipients[0])
    assert "@" not in repr(recipients[0])


def test_a_recipient_is_the_same_after_others_were_added(tmp_path: Path) -> None:
    (one,) = addresses(tmp_path, '[anna]\npush = "ntfys://ntfy.example/one"').recipients("anna", "push")
    two = addresses(tmp_path, '[anna]\npush = "ntfys://ntfy.example/two/one"').recipients("anna", "push")

    assert one.recipient in {other.recipient for other in two}


def test_one_unusable_address_of_several_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeskUnusable, match=r"anna/push \(nonsense"):
        addresses(tmp_path, '[anna]\npush = "json://localhost/a, nonsense://b"').check()


class Flaky(Notifier):
    """Each recipient takes or refuses, as the test draws."""

    def __init__(self, draw: random.Random, chance: float) -> None:
        self._draw, self.chance = draw, chance
        self.taken: list[tuple[str, Any]] = []
        self.refused: Counter[str] = Counter()
        self.dead: set[str] = set()

    async def send(self, address: Address, message: Message, *, name: object = None) -> None:
        if address.url in self.dead or self._draw.random() < self.chance:
            self.refused[address.url] += 1
            raise NotificationNotAccepted("refused")
        assert isinstance(name, list)
        self.taken += [(address.url, one) for one in name]


def a_night(folder: Path, channels: Any, **wishes: Any) -> Night:
    night = Night(folder, **wishes)
    people = "".join(f'[{person}]\npush = "{THREE}"\n' for person in ("anna", "ben", "dora"))
    night.config.addresses.write_text(people, encoding="utf-8")
    night.channels = channels
    night.wake()
    return night


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_each_recipient_gets_each_notification_once_whatever_becomes_of_the_others(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    channels = Flaky(draw, 0.6)
    night = a_night(tmp_path, channels)

    async def story() -> None:
        priority = draw.choice((AMBER, Priority.HIGH))
        night.hear(told(priority=priority))
        await night.pass_time((15 if priority is AMBER else 0) * MINUTE + 100 * SECOND)
        if draw.random() < 0.5:
            night.wake()
        channels.chance = 0.0
        await night.pass_time(65 * SECOND)

    lived(story)
    night.book.close()

    times = Counter((url, name) for url, name in channels.taken)
    assert set(times.values()) == {1}
    first = {url for url, (key, person, _) in channels.taken if person == "anna" and key.endswith(".0.0")}
    assert first == {f"json://localhost/{one}" for one in "abc"}


def test_a_recipient_that_is_broken_for_good_neither_repeats_nor_stops_the_others(tmp_path: Path) -> None:
    channels = Flaky(random.Random(1), 0.0)
    channels.dead = {"json://localhost/b"}
    night = a_night(tmp_path, channels)

    async def story() -> None:
        night.hear(told())
        await night.pass_time(90 * SECOND)

    lived(story)
    night.book.close()

    assert sorted(url[-1] for url, _ in channels.taken) == ["a", "c"]
    assert channels.refused["json://localhost/b"] > 4


def test_several_recipients_of_one_notification_count_once_towards_the_limit(tmp_path: Path) -> None:
    channels = Flaky(random.Random(1), 0.0)
    night = a_night(tmp_path, channels)

    async def story() -> None:
        night.hear(*(told(number, stay_id=f"{number:032x}", priority=AMBER) for number in range(1, 11)))
        await night.pass_time(14 * MINUTE)

    lived(story)
    night.book.close()

    assert len(channels.taken) == 30  # ten single messages, each to three recipients
    assert night.desk.counts.digests == 0


@pytest.mark.services
def test_of_two_real_services_the_one_that_fails_is_tried_again_alone(tmp_path: Path) -> None:
    with webhooks("takes", "fails") as (good, bad):
        night = a_night(tmp_path, Notifier(within_s=PATIENCE_S))
        text = "".join(f'[{person}]\npush = "{good.url}, {bad.url}"\n' for person in ("anna", "ben", "dora"))
        night.config.addresses.write_text(text, encoding="utf-8")
        night.wake()

        async def story() -> None:
            night.hear(told())
            async with asyncio.timeout(PATIENCE_S):
                while night.desk.counts.failed["push"] < 3:
                    night.clock.advance(SECOND)
                    night.desk.turn()
                    await asyncio.sleep(0.02)

        lived(story)
        night.book.close()

        assert len(good.taken) == 1

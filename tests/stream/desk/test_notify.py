"""Messages on their way: services that fail, hang and answer late, and addresses that nobody may see."""

import asyncio
import io
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from runtime.errors import NotPrivate
from stream.desk import notify
from stream.desk.notify import Address, Addresses, Notifier
from stream.desk.texts import Message
from stream.errors import DeskUnusable, NotificationNotAccepted
from tests.patience import PATIENCE_S
from tests.services.receivers import Mail, Webhook, webhooks
from vitals.messages import Priority

RED = Message("*** high alarm, bed 12", "*** HIGH alarm: bed 12.\nNot a certified medical device.", Priority.HIGH)
AMBER = RED._replace(priority=Priority.MEDIUM)


def a_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def at(webhook: Webhook, person: str = "anna") -> Address:
    return Address(person, "push", webhook.url)


def test_a_webhook_takes_a_message() -> None:
    with webhooks("takes") as (hook,):
        asyncio.run(Notifier(within_s=PATIENCE_S).send(at(hook), RED))

    assert [(one["title"], one["message"]) for one in hook.taken] == [(RED.title, RED.body)]
    assert not [one for one in threading.enumerate() if "Executor" in one.name]  # none that all would share


def test_a_mail_server_takes_a_message() -> None:
    with Mail() as mail:
        asyncio.run(Notifier(within_s=PATIENCE_S).send(Address("anna", "mail", mail.url), RED))

    (message,) = mail.messages
    assert message["Subject"] == RED.title
    assert message["To"] == "anna@ward.example"
    assert "Not a certified medical device." in message.get_content()


@pytest.mark.parametrize(
    ("mood", "problem"), [("fails", "the service answered 500"), ("hangs", "no reply within 0.3 s")]
)
def test_a_failed_delivery_is_reported_without_the_address(
    mood: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()  # all that a process of ours would write at DEBUG
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(written)])
    monkeypatch.setattr(logging.root, "level", logging.DEBUG)
    with webhooks(mood) as (hook,), pytest.raises(NotificationNotAccepted) as refused:
        asyncio.run(Notifier(within_s=0.3).send(at(hook), RED))

    assert str(refused.value) == f"anna/push (json): {problem}"
    assert "s3cr3t" not in written.getvalue()
    assert str(hook.port) not in written.getvalue()


def test_an_unreachable_service_is_a_failure() -> None:
    with webhooks("takes") as (hook,):
        address = at(hook)

    with pytest.raises(NotificationNotAccepted, match="cannot be reached, or refused the message"):
        asyncio.run(Notifier(within_s=PATIENCE_S).send(address, RED))


def test_a_mail_server_that_refuses_is_a_failure() -> None:
    with Mail() as mail:
        mail.refuses = True
        with pytest.raises(NotificationNotAccepted):
            asyncio.run(Notifier(within_s=PATIENCE_S).send(Address("anna", "mail", mail.url), RED))

    assert mail.messages == []


@pytest.mark.slow
def test_a_late_acceptance_is_reported_after_the_timeout() -> None:
    late: list[tuple[Address, object]] = []

    async def story(hook: Webhook) -> float:
        notifier = Notifier(within_s=0.2, on_late=lambda address, name: late.append((address, name)))
        began = time.monotonic()
        with pytest.raises(NotificationNotAccepted):
            await notifier.send(at(hook), RED, name="key")
        waited = time.monotonic() - began
        async with asyncio.timeout(PATIENCE_S):
            while not late:
                await asyncio.sleep(0.01)
        assert notifier.threads == 0
        return waited

    with webhooks("late") as (hook,):
        waited = asyncio.run(story(hook))

    assert waited < 0.9
    assert late == [(at(hook), "key")]
    assert hook.titles == [RED.title]


def test_a_hanging_address_blocks_no_other_and_uses_few_threads() -> None:
    async def story(hanging: Webhook, well: Webhook) -> tuple[int, float]:
        notifier = Notifier(within_s=0.5)
        stuck = [asyncio.create_task(notifier.send(at(hanging), RED)) for _ in range(20)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await asyncio.gather(*(notifier.send(at(well), RED) for _ in range(4)))
        took = time.monotonic() - began
        problems = [str(one) for one in await asyncio.gather(*stuck, return_exceptions=True)]
        assert sum("no reply within" in one for one in problems) == notify.RED_AT_ONE_ADDRESS
        assert sum("earlier messages to it have no reply" in one for one in problems) == 20 - notify.RED_AT_ONE_ADDRESS
        return notifier.threads, took

    with webhooks("hangs", "takes") as (hanging, well):
        threads, took = asyncio.run(story(hanging, well))

    assert threads == notify.RED_AT_ONE_ADDRESS  # those of the one that hangs
    assert len(well.taken) == 4
    assert took < 0.5


def test_a_crowd_below_red_stands_before_no_red_one() -> None:
    async def story(hanging: list[Webhook], well: Webhook) -> None:
        notifier = Notifier(within_s=0.5)
        crowd = [
            asyncio.create_task(notifier.send(at(one, f"p{index}"), AMBER))
            for one in hanging
            for index in range(notify.OTHER_THREADS)
        ]
        await asyncio.sleep(0.05)
        assert notifier.threads == notify.OTHER_THREADS
        await notifier.send(at(well), RED)
        await asyncio.gather(*crowd, return_exceptions=True)

    with webhooks("hangs", "hangs", "takes") as (*hanging, well):
        asyncio.run(story(hanging, well))

    assert well.titles == [RED.title]


# Addresses


def test_addresses_are_read_and_shown_without_what_is_secret(tmp_path: Path) -> None:
    path = a_file(
        tmp_path / "a.toml", '[anna]\npush = "ntfys://user:s3cr3t@ntfy.example/topic"\n[ben]\nsms = "json://h"'
    )

    found = Addresses(path)
    found.check()

    assert found.people == ["anna", "ben"]
    assert [str(one) for one in found.of("anna")] == ["anna/push (ntfys)"]
    assert [repr(one) for one in found.recipients("ben", "sms")] == ["ben/sms (json)"]
    assert found.recipients("ben", "push") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[anna]\npush = "nothing://s3cr3t"', r"Apprise cannot use the address anna/push \(nothing\)"),
        ('[anna]\npush = "s3cr3t', r"is not valid TOML \(at line 2, column \d+\)|is not valid TOML"),
        ('anna = "json://s3cr3t"', "a table for each person"),
        ('[anna]\npush = ["json://s3cr3t"]', "a table for each person"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_what_is_secret(tmp_path: Path, text: str, says: str) -> None:
    path = a_file(tmp_path / "a.toml", text)

    with pytest.raises(DeskUnusable, match=says) as refused:
        Addresses(path).check()

    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_file_that_others_can_read_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotPrivate, match="chmod 600"):
        Addresses(a_file(tmp_path / "a.toml", "", mode=0o644))


def test_a_missing_address_file_is_an_error_that_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(DeskUnusable, match="mode 600"):
        Addresses(tmp_path / "none.toml")

    assert os.listdir(tmp_path) == []

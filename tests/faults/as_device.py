"""What a device or a person does once, in a process of its own, so that its clock can be another: prints what it got.

python -m tests.faults.as_device enrol INVITATION FOLDER
python -m tests.faults.as_device renew FOLDER
python -m tests.faults.as_device connect FOLDER
python -m tests.faults.as_device login|alarms URL ROOT USER PASSWORD
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from stream.desk.client import DeskClient
from wire.enrol import client
from wire.enrol.renewal import look_after
from wire.enrol.requests import Invitation
from wire.enrol.wallet import Wallet
from wire.lanes import tls_context
from wire.mqtt import MqttClient


def enrol(invitation: str, folder: str) -> str:
    return client.enrol(Invitation.parse(invitation), Path(folder)).me.credential_serial.hex()


def renew(folder: str) -> str:
    """As a device does every hour; the serial of its credential afterwards."""
    wallet = Wallet.load(Path(folder))
    asyncio.run(look_after(wallet, SystemClock().now_ms()))
    if wallet.renewal_problem:
        raise SystemExit(wallet.renewal_problem)
    return wallet.me.credential_serial.hex()


def connect(folder: str) -> str:
    """Over TLS to the MQTT broker that was announced at enrolment."""
    wallet = Wallet.load(Path(folder))

    async def story() -> str:
        broker = wallet.broker
        name = wallet.me.device_id.hex()
        async with MqttClient(
            host=broker.host, port=broker.port, client_id=name, subscriptions=(), tls=tls_context(wallet.tls)
        ) as mqtt:
            return "connected" if await mqtt.wait_connected(10) else mqtt.trouble

    return asyncio.run(story())


def login(url: str, root: str, user: str, password: str) -> str:
    found = DeskClient(url, root=Path(root))._ask(
        "POST", "/v1/login", {"user": user, "password": password}, dict[str, Any]
    )
    return str(found["user"])


def alarms(url: str, root: str, user: str, password: str) -> str:
    """Priority and text of each alarm on the list."""
    desk = DeskClient(url, root=Path(root))
    asked = {"user": user, "password": password}
    token = desk._ask("POST", "/v1/login", asked, dict[str, Any])["token"]
    found = DeskClient(url, root=Path(root), token=token).alarms(dict[str, Any])
    return "\n".join(f"{one['priority']} {one['place']}: {one['text']}" for one in found["alarms"])


if __name__ == "__main__":
    logging.disable()
    commands = {"enrol": enrol, "renew": renew, "connect": connect, "login": login, "alarms": alarms}
    done = commands[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(f"{done}\n")

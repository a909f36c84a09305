"""Whoever supervises this process: systemd, by its datagram socket, or nobody.

A supervisor that asks for signs of life (`WatchdogSec=`) is to get them for progress, and never from a timer.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final, Self

from runtime import logs

SOCKET: Final = "NOTIFY_SOCKET"

_log = logs.get(__name__)


class Supervisor:
    """Where to say that we are ready, alive, or about to end.

    Args:
        address: of the socket, as systemd writes it; empty: nobody listens.
    """

    def __init__(self, address: str = "") -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._is_deaf = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """The one that has started us. What we start is not to speak in our name, so its address is taken out."""
        return cls(environment.pop(SOCKET, ""))

    def ready(self) -> None:
        """What was started serves from now on."""
        self._say("READY=1")

    def alive(self, status: str) -> None:
        """Something was achieved; the sentence is what `systemctl status` shows."""
        self._say(f"WATCHDOG=1\nSTATUS={status}")

    def in_trouble(self, status: str) -> None:
        """We run and achieve nothing: a sentence, and no sign of life."""
        self._say(f"STATUS={status}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # a supervisor that does not read must not hold up a reading
            try:
                sender.sendto(text.encode(), self._address)
            except OSError as error:
                if not self._is_deaf:
                    _log.warning("the supervisor cannot be told", problem=error.strerror)
                self._is_deaf = True
                return
        self._is_deaf = False

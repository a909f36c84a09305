"""Notifications to systemd over its datagram socket (`sd_notify`), if it has started this process.

Keep-alives (`WatchdogSec=`) are sent when the process makes progress, never by a timer.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final, Self

from runtime import logs

SOCKET: Final = "NOTIFY_SOCKET"

_log = logs.get(__name__)


class SystemdNotifier:
    """Tells systemd that this process is ready, alive or stopping.

    Args:
        address: address of the socket, as in NOTIFY_SOCKET; empty: send nothing.
    """

    def __init__(self, address: str = "") -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._has_failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Read NOTIFY_SOCKET and remove it, so that child processes cannot send notifications for this one."""
        return cls(environment.pop(SOCKET, ""))

    def ready(self) -> None:
        """The process has started and serves."""
        self._send("READY=1")

    def alive(self, status: str) -> None:
        """The process made progress; `systemctl status` shows `status`."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def in_trouble(self, status: str) -> None:
        """The process runs without progress: send `status` and no keep-alive."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # if systemd does not read, this must not delay a reading
            try:
                sender.sendto(text.encode(), self._address)
            except OSError as error:
                if not self._has_failed:
                    _log.warning("cannot notify systemd", problem=error.strerror)
                self._has_failed = True
                return
        self._has_failed = False

"""Start and shutdown of a vitalloom process."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, Final

from runtime import logs
from runtime.hardening import harden

STOP_WITHIN_S: Final = 9.0
"""Service managers and container engines kill a process ten seconds after asking it to stop."""

_log = logs.get(__name__)


def set_up_process(*, level: logs.LogLevel = "INFO", form: logs.LogFormat = "plain") -> None:
    """Protect secrets in memory (`runtime.hardening`) and log to standard error."""
    hardening = harden()
    logs.set_up(level=level, form=form)
    for warning in hardening.warnings:
        _log.warning("secrets in memory are not fully protected", problem=warning)


async def run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it returns or until SIGINT or SIGTERM, then let it shut down within `STOP_WITHIN_S`.

    A client of a server that does not respond can block for a minute. After `STOP_WITHIN_S` the process exits without
    waiting for it. No data is lost: confirmed data is on disk, and unconfirmed data is sent again.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_now() -> None:
        if not signalled.is_set():
            signalled.set()
            deadline = threading.Timer(STOP_WITHIN_S, _exit_now)
            deadline.daemon = True
            deadline.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_now)
    working = asyncio.create_task(work, name="work")
    stop = asyncio.create_task(signalled.wait(), name="stop")
    await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not working.done():
        working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    _log.info("stopped")


def _exit_now() -> None:
    _log.warning("shutdown timed out, exiting", after_s=STOP_WITHIN_S)
    logging.shutdown()
    os._exit(0)

"""How a process of ours begins and ends."""

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
"""Whoever has told a process to stop waits ten seconds before killing it."""

_log = logs.get(__name__)


def begin(*, level: logs.LogLevel = "INFO", form: logs.LogFormat = "plain") -> None:
    """Nothing secret into core dumps and swap, and a log on stderr."""
    hardening = harden()
    logs.set_up(level=level, form=form)
    for warning in hardening.warnings:
        _log.warning("keys at rest", problem=warning)


async def until_told_to_stop(work: Coroutine[Any, Any, None]) -> None:
    """Do this until it is done, or until SIGINT or SIGTERM; then let it end as it wants to, within `STOP_WITHIN_S`.

    A client of a server that stands still can wait for it for a minute, and so would the process: it is left behind.
    Nothing is lost by that, for what is confirmed is on a disk, and everything else comes again.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_now() -> None:
        if not told.is_set():
            told.set()
            patience = threading.Timer(STOP_WITHIN_S, _leave)
            patience.daemon = True
            patience.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_now)
    working = asyncio.create_task(work, name="work")
    stop = asyncio.create_task(told.wait(), name="stop")
    await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not working.done():
        working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    _log.info("stopped")


def _leave() -> None:
    _log.warning("something does not end and is left behind", after_s=STOP_WITHIN_S)
    logging.shutdown()
    os._exit(0)

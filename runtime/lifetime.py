"""How a process of ours begins and ends."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

from runtime import logs
from runtime.hardening import harden

_log = logs.get(__name__)


def begin(*, level: logs.LogLevel = "INFO", form: logs.LogFormat = "plain") -> None:
    """Nothing secret into core dumps and swap, and a log on stderr."""
    hardening = harden()
    logs.set_up(level=level, form=form)
    for warning in hardening.warnings:
        _log.warning("keys at rest", problem=warning)


async def until_told_to_stop(work: Coroutine[Any, Any, None]) -> None:
    """Do this until it is done, or until SIGINT or SIGTERM; then let it end as it wants to."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    working = asyncio.create_task(work, name="work")
    stop = asyncio.create_task(told.wait(), name="stop")
    await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not working.done():
        working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    _log.info("stopped")

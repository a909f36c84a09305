"""The local socket by which `vitalloom edge observe` reaches the running agent: a request and a reply, as JSON lines.

It lies in the data folder and only the agent's user and root can open it. Nothing can be entered from the network.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from edge.errors import EntryRefused, ExtremeEntry
from edge.observing import EdgeEntry, EdgeObserving, Entered
from runtime import logs

SOCKET_FILE: Final = "observe.sock"
MOST_BYTES: Final = 8_192
WITHIN_S: Final = 20.0
MOST_CONNECTIONS: Final = 8

_log = logs.get(__name__)


class EntryReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says to an entry."""

    entered: Entered | None = None
    problem: str = ""  # why it was not entered
    is_extreme: bool = False  # it is entered if the person confirms the value


@contextlib.asynccontextmanager
async def serving_entries(folder: Path, observing: EdgeObserving) -> AsyncIterator[None]:
    """Accept entries within the block. Where no socket can be made the agent goes on without.

    Args:
        folder: the data folder; the socket lies in it.
    """
    path = folder.resolve() / SOCKET_FILE
    open_now = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            async with asyncio.timeout(WITHIN_S):
                reply = (
                    EntryReply(problem="too many entries at once; try again in a few seconds")
                    if open_now > MOST_CONNECTIONS
                    else await _reply_to(reader, observing)
                )
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError) as error:  # the other side has gone, or its line has no end
            _log.warning("an entry was cut off", problem=type(error).__name__)
        finally:
            open_now -= 1
            writer.close()

    server = None
    before = os.umask(0o177)  # from its first moment nobody else can open it
    try:
        path.unlink(missing_ok=True)  # of an agent that was killed; the outbox has one agent at a time
        with _short(folder) as address:
            server = await asyncio.start_unix_server(answer, address, limit=MOST_BYTES)
    except OSError as error:
        _log.error("nothing can be entered at this edge; patients are watched as ever", problem=str(error))
    finally:
        os.umask(before)
    try:
        yield
    finally:
        if server is not None:
            server.close()
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A name of the socket that fits into an address, which has room for 107 bytes, also if the folder's is longer."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_FILE}"
    finally:
        os.close(descriptor)


async def _reply_to(reader: asyncio.StreamReader, observing: EdgeObserving) -> EntryReply:
    line = await reader.readline()
    try:
        entry = msgspec.json.decode(line, type=EdgeEntry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return EntryReply(problem=f"not an entry: {str(error)[:200]}")
    try:
        return EntryReply(entered=await observing.enter(entry))
    except ExtremeEntry as error:
        return EntryReply(problem=str(error), is_extreme=True)
    except EntryRefused as error:
        return EntryReply(problem=str(error))


async def send_entry(folder: Path, entry: EdgeEntry) -> EntryReply:
    """Hand an entry to the agent whose data folder this is. Raises EntryRefused: no agent answers there."""
    path = folder.resolve() / SOCKET_FILE
    try:
        async with asyncio.timeout(WITHIN_S):
            with _short(folder) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=MOST_BYTES)
            try:
                writer.write(msgspec.json.encode(entry) + b"\n")
                await writer.drain()
                return msgspec.json.decode(await reader.readline(), type=EntryReply)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
        raise EntryRefused(
            f"NOT entered: the agent does not answer at {path} ({type(error).__name__}); is it running? "
            "sudo systemctl status vitalloom-edge; the command needs the agent's user or root: sudo"
        ) from error

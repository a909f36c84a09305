"""A worker that dies at a chosen instruction: `python -m tests.faults.failing_worker POINT ENGINE`.

Points: `before` the n-th commit, `within` its open transaction, `after` it was committed and before anything else.
"""

import os
import signal
import sys
from typing import Any, Final

from stream.engine.partitions import VitalsConsumer
from stream.engine.process import EventLoop, run_worker, worker_config

POINTS: Final = ("before", "within", "after")
_NTH: Final = 5


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(point: str, engine: str) -> int:
    """Run until the point is reached."""
    commit, send = VitalsConsumer._commit, VitalsConsumer._send_batch
    reached = 0

    async def at_commit(self: VitalsConsumer, *told: Any) -> None:
        nonlocal reached
        reached += 1
        if point == "before" and reached == _NTH:
            _die()
        await commit(self, *told)
        if point == "after" and reached >= _NTH:
            _die()

    async def at_send(self: VitalsConsumer, *told: Any) -> Any:
        waiting = await send(self, *told)
        if point == "within" and reached >= _NTH:
            for one in waiting:
                await one  # the records are in the log, the transaction is open
            _die()
        return waiting

    VitalsConsumer._commit = at_commit  # type: ignore[method-assign]
    VitalsConsumer._send_batch = at_send  # type: ignore[method-assign]
    return run_worker(worker_config(None), EventLoop(engine))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

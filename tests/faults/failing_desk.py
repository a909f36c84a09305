"""An alarm desk that dies at a chosen instruction: `python -m tests.faults.failing_desk POINT desk --config FILE`.

Points: `opened` an alarm and did no more, `begun` to call and sent nothing, `sent` and not written down, `answered` by
a person who has not heard that it was, `ordered` of the log and not written down.
"""

import os
import signal
import sys
from typing import Any, Final

from stream.desk.desk import AlarmDesk
from stream.desk.sending import Sending

POINTS: Final = ("opened", "begun", "sent", "answered", "ordered")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(point: str) -> None:
    hear, turn, record = AlarmDesk.hear, AlarmDesk.turn, Sending._record
    acknowledge, passed_on = AlarmDesk.acknowledge, AlarmDesk.passed_on

    def at_hear(self: AlarmDesk, batch: Any, **more: Any) -> None:
        hear(self, batch, **more)
        if point == "opened" and self.counts.opened:
            _die()

    def at_turn(self: AlarmDesk) -> None:
        turn(self)  # what it has begun runs when the loop turns: not any more
        if point == "begun" and self._sending.flying:
            _die()

    async def at_record(self: Sending, *told: Any, accepted: bool) -> Any:
        if point == "sent" and accepted:
            _die()
        return await record(self, *told, accepted=accepted)

    def at_acknowledge(self: AlarmDesk, *told: Any, **more: Any) -> Any:
        done = acknowledge(self, *told, **more)
        if point == "answered":
            _die()
        return done

    def at_passed_on(self: AlarmDesk, pending: Any) -> None:
        if point == "ordered":
            _die()
        passed_on(self, pending)

    AlarmDesk.hear = at_hear  # type: ignore[method-assign]
    AlarmDesk.turn = at_turn  # type: ignore[method-assign]
    Sending._record = at_record  # type: ignore[method-assign]
    AlarmDesk.acknowledge = at_acknowledge  # type: ignore[method-assign]
    AlarmDesk.passed_on = at_passed_on  # type: ignore[method-assign]


if __name__ == "__main__":
    _fail(sys.argv[1])
    sys.argv = ["vitalloom", *sys.argv[2:]]
    from vitalloom import main

    main()

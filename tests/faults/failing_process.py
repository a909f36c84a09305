"""A process of a site that dies at the worst instruction: `python -m tests.faults.failing_process ingest|store ...`.

The ingest dies when Kafka has a batch and the broker does not know; the store writer when the database has one.
"""

import os
import signal
import sys
from typing import Any, Final

_NTH: Final = 3


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _ingest() -> None:
    from stream.ingest.kafka_ingest import KafkaIngest

    deliver, reached = KafkaIngest._deliver, 0

    async def at_deliver(self: KafkaIngest, sender: Any, records: list[Any]) -> None:
        nonlocal reached
        await deliver(self, sender, records)
        reached += bool(records)
        if reached == _NTH:
            _die()

    KafkaIngest._deliver = at_deliver  # type: ignore[method-assign]


def _store() -> None:
    from stream.store.writer import TopicGroupWriter

    tell, reached = TopicGroupWriter._tell, 0

    async def at_tell(self: TopicGroupWriter, *told: Any) -> None:
        nonlocal reached
        reached += self._name == "events"
        if reached == _NTH and self._name == "events":
            _die()
        await tell(self, *told)

    TopicGroupWriter._tell = at_tell  # type: ignore[method-assign]


if __name__ == "__main__":
    kind = sys.argv[1]
    {"ingest": _ingest, "store": _store}[kind]()
    sys.argv = ["vitalloom", *(["store", "run"] if kind == "store" else sys.argv[1:])]
    from vitalloom import main

    main()

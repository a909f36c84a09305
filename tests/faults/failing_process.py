"""A process of a site that dies at the worst instruction: `python -m tests.faults.failing_process ingest|store ...`.

Ingest dies when Kafka has a batch and the MQTT broker has no PUBACK; the store writer when InfluxDB has a batch and
ingest has no report.
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

    async def at_deliver(self: KafkaIngest, sender: Any, records: list[Any]) -> list[Any]:
        nonlocal reached
        refused = await deliver(self, sender, records)
        reached += bool(records)
        if reached == _NTH:
            _die()
        return refused

    KafkaIngest._deliver = at_deliver  # type: ignore[method-assign]


def _store() -> None:
    from stream.store.writer import TopicGroupWriter

    report, reached = TopicGroupWriter._report, 0

    async def at_report(self: TopicGroupWriter, *arguments: Any) -> None:
        nonlocal reached
        reached += self._name == "events"
        if reached == _NTH and self._name == "events":
            _die()
        await report(self, *arguments)

    TopicGroupWriter._report = at_report  # type: ignore[method-assign]


if __name__ == "__main__":
    kind = sys.argv[1]
    {"ingest": _ingest, "store": _store}[kind]()
    sys.argv = ["vitalloom", *(["store", "run"] if kind == "store" else sys.argv[1:])]
    from vitalloom import main

    main()

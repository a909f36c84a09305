"""Counters of one agent since its start; each part of the agent adds to them."""

from collections import Counter

import msgspec


class AgentCounts(msgspec.Struct):
    """What became of the messages that reached the agent."""

    received: int = 0
    accepted: int = 0  # readings, each once
    duplicates: int = 0
    postponed: int = 0  # frames that arrived while nothing could be committed; their senders still have them
    documents: int = 0  # of the data centre, each once
    commits: int = 0
    failed_commits: int = 0
    alarms: int = 0
    local_alarms: int = 0
    clock_steps: int = 0  # times that the wall clock was set by a second or more
    not_judged: int = 0  # times that judging failed; readings are forwarded all the same
    observations: int = 0  # that people entered here, each once
    refused_observations: int = 0  # of those, that the data centre refuses
    unreadable_orders: int = 0  # orders of stays that could not be read; those before stayed in force
    given_up: int = 0  # rows that were shed, or whose session the cloud refuses
    forged_acks: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    turned_ms: int = 0  # monotonic: the last turn of the agent's loop
    stuck_since_ms: int | None = None  # monotonic: first of the commits that have been failing; None: commits succeed

"""Metrics and readiness of an edge agent over HTTP, from its counters. Called from another thread."""

from typing import Final, Protocol

from edge.counts import AgentCounts
from runtime.clock import Clock
from runtime.metrics import Figure, Figures

STUCK_MS: Final = 15_000


class WatchedAgent(Protocol):
    """Figures of an agent."""

    counts: AgentCounts

    @property
    def sent(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class WatchedConnections(Protocol):
    """State of its connections."""

    @property
    def connected(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    @property
    def refusal(self) -> str: ...


class EdgeHealth:
    """`vitalloom edge`: the agent that runs now, or none while another one is started after damage."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._agent: WatchedAgent | None = None
        self._lanes: WatchedConnections | None = None

    def follow(self, agent: WatchedAgent, lanes: WatchedConnections) -> None:
        """Report on this agent from now on."""
        self._agent, self._lanes = agent, lanes

    def figures(self) -> Figures:
        agent, lanes = self._agent, self._lanes
        if agent is None or lanes is None:
            return Figures()
        counts, now_ms = agent.counts, self._clock.mono_ms()
        grown = (
            ("accepted", "Readings, each once.", counts.accepted),
            ("duplicates", "Frames received again.", counts.duplicates),
            ("postponed", "Frames received while the outbox could not commit; wearables keep them.", counts.postponed),
            ("commits", "Outbox transactions.", counts.commits),
            ("alarms", "Alarms raised by this edge.", counts.alarms),
            ("clock_steps", "Times that the wall clock of this machine was set.", counts.clock_steps),
            ("local_alarms", "Times that the local alarm sounded.", counts.local_alarms),
        )
        since_ms = counts.turned_ms if counts.stuck_since_ms is None else counts.stuck_since_ms
        return Figures(
            received=counts.received,
            sent=agent.sent,
            errors={"commit": counts.failed_commits, "judge": counts.not_judged},
            discarded={
                "given_up": counts.given_up,
                "forged_ack": counts.forged_acks,
                **{str(reason): number for reason, number in dict(counts.rejected).items()},
            },
            lag={"outbox": agent.waiting},
            progress_age_s=max(0, now_ms - since_ms) / 1_000 if counts.turned_ms else None,
            more=(
                Figure("connected", "1 while connected to the MQTT broker on both lanes.", lanes.connected),
                *(Figure(name, about, number, grows=True) for name, about, number in grown),
            ),
        )

    def trouble(self) -> str:
        agent, lanes = self._agent, self._lanes
        if agent is None or lanes is None:
            return "the agent is starting"
        if not lanes.connected:
            return f"the MQTT broker is not connected ({lanes.trouble or 'not yet'}); readings are kept"
        if lanes.refusal:
            return f"the MQTT broker {lanes.refusal}; readings are kept"
        return trouble_of_agent(agent.counts, self._clock.mono_ms())


def trouble_of_agent(counts: AgentCounts, now_ms: int) -> str:
    """Why no reading can be accepted; empty: all is well."""
    if (since_ms := counts.stuck_since_ms) is not None:
        return f"the outbox has not committed for {(now_ms - since_ms) / 1_000:.0f} s: is the disk full?"
    if counts.turned_ms and now_ms - counts.turned_ms > STUCK_MS:
        return f"the agent loop has not turned for {(now_ms - counts.turned_ms) / 1_000:.0f} s"
    return ""

"""The edge agents of a ward, and what they report about themselves."""

import random
from collections import Counter
from collections.abc import Callable, Sequence

from simulators.enrolled import EnrolledSite
from simulators.ward.agents import Agent, AgentProcess, AgentTask, config_of
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.setup import WardSetup
from wire.codec import HeartbeatV1


class Edges(WardPart):
    """Edge agents; ready when each is connected and has the newest documents.

    Args:
        site: the site in which the agents are enrolled.
        agents: in the order of the site's edges.
    """

    def __init__(self, site: EnrolledSite, agents: Sequence[Agent]) -> None:
        self.agents = tuple(agents)
        self._site = site
        self._newest_documents: tuple[bytes, ...] = ()  # digests, one per agent

    async def start(self, lifetime: Lifetime) -> None:
        documents = self._site.site.registry.documents
        self._newest_documents = tuple(documents.digest_for(edge.me.device_id) for edge in self._site.edges)
        for number, agent in enumerate(self.agents):
            lifetime.run(agent.run(), name=f"edge {number}")

    @property
    def is_ready(self) -> bool:
        return all(
            agent.is_up and agent.documents == newest
            for agent, newest in zip(self.agents, self._newest_documents, strict=True)
        )

    def kill_first(self) -> None:
        """SIGKILL the first agent, which runs as a process of its own."""
        agent = self.agents[0]
        assert isinstance(agent, AgentProcess)  # noqa: S101 - the options see to it
        agent.kill()

    @property
    def judged_by(self) -> str:
        """The rules and models that judge patients, as the agents report them."""
        reported = dict.fromkeys(one for one in (agent.judged_by for agent in self.agents) if one)
        return "; ".join(reported) or "not known yet"

    def duplicates(self) -> int:
        """Frames that arrived again and were dropped."""
        return sum(agent.duplicates() for agent in self.agents)

    def rejected(self) -> Counter[str]:
        """Rejected frames by reason."""
        return sum((agent.rejected() for agent in self.agents), Counter[str]())

    def local_alarms(self) -> int:
        """How often an agent sounded its own alarm because the data centre was silent."""
        return sum(agent.local_alarms() for agent in self.agents)


def make_agents(setup: WardSetup, heartbeat_of: Callable[[bytes], HeartbeatV1 | None]) -> list[Agent]:
    """One agent per enrolled edge, as tasks of this process or as processes of their own.

    Args:
        heartbeat_of: the newest heartbeat of an edge id, which is all that is known about another process.
    """
    agents: list[Agent] = []
    for index, wallet in enumerate(setup.site.edges):
        config = config_of(
            setup.folder / f"edge-{index + 1}",
            broker=setup.address,
            cadence_ms=setup.story.cadence_ms,
            clock_file=setup.clock.path.resolve(),
            short_timers=setup.settings.has_faults,
            tls=setup.uses_tls,
            models=None if setup.options.models is None else setup.options.models.resolve(),
        )
        if setup.settings.separate_processes:
            edge_id = wallet.me.device_id
            agents.append(AgentProcess(config, lambda edge_id=edge_id: heartbeat_of(edge_id)))
        else:
            rng = random.Random(setup.options.seed * 3_000 + index)
            agents.append(AgentTask(config, wallet, setup.clock, rng=rng))
    return agents

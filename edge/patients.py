"""The patients of one edge: their readings are judged by rules and models, and their states lie locked on the disk."""

from collections.abc import Mapping
from typing import Final

from edge.at_rest import StateLock
from edge.config import EdgeConfig
from edge.counts import AgentCounts
from edge.model_versions import ModelVersions
from edge.outbox import Outbox
from edge.pipeline import JudgedReading, Pipeline
from edge.scoring import Scoring
from models.artifacts import RELEASED, load_all
from models.passport import RELEASE_KEYS
from runtime import logs
from vitals.messages import AlarmChanged
from vitals.patient_group import group_of
from vitals.plan import MonitoringPlan
from vitals.sender_clock import BOUND_MS, SIMULATED_BOUND_MS
from wire.answers import Answer
from wire.binding_periods import BindingPeriods
from wire.codec import VitalsV1
from wire.identity import NOTHING, About, BindingRecord, Directory
from wire.receiver import Opened

_STATE_LABEL: Final = b""
_MEMORY_LABEL: Final = b"memories"  # a memory put in the place of a state does not unlock

_log = logs.get(__name__)


class EdgePatients:
    """Pipeline, models and state lock of one agent.

    Args:
        config: models, and the cadence that is expected of wearables.
        directory: bindings, and what is known of their patients.
        outbox: states and memories of an earlier run are read from it.
        lock: for states and memories; one whose key is gone makes judging begin with the next readings.
        boot_id: of this process.
    """

    def __init__(
        self,
        config: EdgeConfig,
        directory: Directory,
        outbox: Outbox,
        lock: StateLock,
        counts: AgentCounts,
        *,
        boot_id: bytes = b"",
    ) -> None:
        self._cadence_ms = config.cadence_ms
        self._clock_bound_ms = BOUND_MS if config.clock_file is None else SIMULATED_BOUND_MS
        self._directory = directory
        self._lock = lock
        self._counts = counts
        self._scoring = self._open_models(config, outbox)
        states = self._unlocked("states", _STATE_LABEL, outbox.patients())
        self._pipeline = Pipeline(
            self._plan_of, states.items(), self._scoring, boot_id=boot_id, clock_bound_ms=self._clock_bound_ms
        )
        self._periods = BindingPeriods(directory)

    @property
    def judged_by(self) -> str:
        """Rules and models in use, as every heartbeat reports them."""
        return self._scoring.title

    @property
    def refused_models(self) -> tuple[str, ...]:
        """Names of models that are installed and not trusted."""
        return tuple(self._scoring.refused)

    def open_alarms(self) -> list[AlarmChanged]:
        """Every alarm that stands."""
        return self._pipeline.open_alarms()

    def judge(
        self, opened: Opened, vitals: VitalsV1, binding: BindingRecord, *, received_ms: int, uptime_ms: int
    ) -> JudgedReading:
        """Judge one reading; where judging fails, the reading as it is. Arguments as of `Pipeline.judge`."""
        try:
            return self._pipeline.judge(opened, vitals, binding, received_ms=received_ms, uptime_ms=uptime_ms)
        except Exception as error:  # noqa: BLE001 - one patient's poison must not stop the others; the cloud gets it all
            self._counts.not_judged += 1
            _log.error("a reading could not be judged and is forwarded as it is", problem=type(error).__name__)
            return self._pipeline.unjudged(opened, vitals, binding, received_ms=received_ms, uptime_ms=uptime_ms)

    def shift(self, by_ms: int) -> None:
        """The edge's clock was set by so much; see `Pipeline.shift`."""
        self._pipeline.shift(by_ms)

    def on_timer(self, now_ms: int) -> list[AlarmChanged]:
        """Time has passed."""
        alarms = self._pipeline.on_timer(now_ms)
        for problem in self._pipeline.drain_defects():
            self._counts.not_judged += 1
            _log.error("cannot run the timers of a patient; alarms that depend on time may be missing", problem=problem)
        return alarms

    def follow_bindings(self, now_ms: int, mono_ms: int) -> list[AlarmChanged] | None:
        """Learn which bindings have begun or ended. The alarms that changed; None if there was nothing to learn."""
        periods = self._periods.due(now_ms, mono_ms, edge_heard_ms=lambda _: now_ms)
        if not periods:
            return None
        alarms, told = [], []
        for period in periods:
            try:
                alarms += self._pipeline.on_binding(period)
            except Exception as error:  # noqa: BLE001 - as in `judge`; it is tried again a second later
                self._counts.not_judged += 1
                _log.error("cannot apply a binding; a patient may not be watched", problem=type(error).__name__)
            else:
                told.append(period)
        self._periods.told(told, mono_ms)
        return alarms

    def answer(self, answer: Answer, now_ms: int) -> list[AlarmChanged]:
        """Apply what a person answered; see `Pipeline.answer`."""
        return self._pipeline.answer(answer, now_ms)

    def drain_states(self) -> dict[bytes, bytes]:
        """Locked states of the patients that changed since the last call, by binding id."""
        return self._locked(_STATE_LABEL, self._pipeline.drain_states())

    def drain_memories(self) -> dict[bytes, bytes]:
        """Locked memories of models that changed since the last call, by binding id."""
        return self._locked(_MEMORY_LABEL, self._pipeline.drain_memories())

    def _locked(self, label: bytes, found: Mapping[str, bytes]) -> dict[bytes, bytes]:
        patients = {bytes.fromhex(binding_id): state for binding_id, state in found.items()}
        return {patient: self._lock.lock(label + patient, state) for patient, state in patients.items()}

    def _unlocked(self, kind: str, label: bytes, kept: Mapping[bytes, bytes]) -> dict[str, bytes]:
        """States or memories of an earlier run, as far as they can be unlocked."""
        opened = {patient: self._lock.unlock(label + patient, locked) for patient, locked in kept.items()}
        found = {patient.hex(): state for patient, state in opened.items() if state is not None}
        if gone := len(kept) - len(found):
            _log.warning(
                f"patient {kind} were encrypted with a key that no longer exists; scoring starts without history",
                patients=gone,
            )
        return found

    def _open_models(self, config: EdgeConfig, outbox: Outbox) -> Scoring:
        """The trusted models of this edge, none older than one that it has trusted before."""
        accepted = ModelVersions(config.data_dir / "models.json")
        found = load_all(
            config.models or RELEASED, trusted=(*RELEASE_KEYS, *config.model_keys), not_below=accepted.newest
        )
        memories = self._unlocked("memories", _MEMORY_LABEL, outbox.memories())
        scoring = Scoring(found, self._about, memories)
        for name, error in scoring.refused.items():
            _log.error("a model is refused; the rules judge without it", model=name, problem=str(error))
        if scoring.forgotten:
            _log.warning(
                "cannot read the saved model states of some patients; the models start without history",
                patients=scoring.forgotten,
            )
        accepted.accept(scoring.versions)
        return scoring

    def _plan_of(self, binding_id: str) -> MonitoringPlan:
        binding = self._directory.binding(bytes.fromhex(binding_id))
        if binding is None:
            return MonitoringPlan(cadence_ms=self._cadence_ms, clock_bound_ms=self._clock_bound_ms)
        return MonitoringPlan(
            spo2_scale=binding.spo2_scale,
            group=group_of(binding.about),
            time_zone=binding.time_zone,
            cadence_ms=self._cadence_ms,
            clock_bound_ms=self._clock_bound_ms,
        )

    def _about(self, binding_id: str) -> About:
        binding = self._directory.binding(bytes.fromhex(binding_id))
        return NOTHING if binding is None else binding.about

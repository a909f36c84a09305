"""The patients of one edge: their readings are judged by rules and models, and their states lie locked on the disk.

All devices of a stay that this edge hears are judged together. When they have gone to another edge, this one watches
the patient until a document says that the other one does; then it forgets.
"""

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
from vitals.errors import BadOrders
from vitals.messages import AlarmChanged, Observation
from vitals.orders import decode_orders, plan_of
from vitals.orders_in_force import OrdersInForce
from vitals.patient_group import group_of
from vitals.plan import MonitoringPlan
from vitals.sender_clock import BOUND_MS, SIMULATED_BOUND_MS
from wire.answers import Answer
from wire.binding_periods import BindingPeriods
from wire.codec import VitalsV1
from wire.identity import NOTHING, About, BindingRecord, Directory, StayOrders
from wire.receiver import Opened

LOOK_EVERY_MS: Final = 1_000

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
        self._orders = OrdersInForce()
        self._plans: dict[str, MonitoringPlan] = {}  # by stay: what it is judged by
        self._known: set[str] = set()  # stays that documents spoke of in this run
        self._scoring = self._open_models(config, outbox)
        states = self._unlocked("states", _STATE_LABEL, outbox.patients())
        self._pipeline = Pipeline(
            self._new_plan_of, states.items(), self._scoring, boot_id=boot_id, clock_bound_ms=self._clock_bound_ms
        )
        self._periods = BindingPeriods(directory)
        self._looked_ms: int | None = None  # monotonic: when stays were last compared with what is known of them

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
        """Judge one reading; where judging fails, the reading as it is. Arguments as of `Pipeline.judge`.

        A late reading of a stay that another edge watches is forwarded, and not judged here.
        """
        if self._is_handed_over(binding.stay_id):
            return self._pipeline.unjudged(opened, vitals, binding, received_ms=received_ms, uptime_ms=uptime_ms)
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
        """Learn what has become of bindings and stays. The alarms that changed; None if there was nothing to learn."""
        left = self._follow_stays(now_ms, mono_ms)
        periods = self._periods.due(now_ms, mono_ms, edge_heard_ms=lambda _: now_ms)
        if not periods:
            return left
        alarms, told = left or [], []
        for period in periods:
            try:
                if not self._is_handed_over(bytes.fromhex(period.stay_id)):
                    alarms += self._pipeline.on_binding(period)
            except Exception as error:  # noqa: BLE001 - as in `judge`; it is tried again a second later
                self._counts.not_judged += 1
                _log.error("cannot apply a binding; a patient may not be watched", problem=type(error).__name__)
            else:
                told.append(period)
        self._periods.told(told, mono_ms)
        return alarms

    def watches(self, stay_id: str) -> bool:
        """Whether a stay is judged here, and not by another edge alone."""
        return stay_id in self._pipeline.stays()

    def observe(self, observation: Observation) -> list[AlarmChanged]:
        """Judge what a person entered; where judging fails it is forwarded all the same."""
        try:
            return self._pipeline.observe(observation)
        except Exception as error:  # noqa: BLE001 - as in `judge`
            self._counts.not_judged += 1
            _log.error("an observation could not be judged and is forwarded as it is", problem=type(error).__name__)
            return []

    def orders_version(self, stay_id: str) -> int:
        """The version of the orders that a stay is judged by; 0: the defaults."""
        ordered = self._orders.of(stay_id)
        return 0 if ordered is None else ordered.version

    def _accept_orders(self, stay_id: str) -> None:
        """Judge a stay by the newest orders that were signed for it and can be read."""
        ordered = self._directory.orders_of(bytes.fromhex(stay_id))
        if ordered is not None and self._orders.accept(stay_id, ordered.orders):
            _log.info("orders in force", stay=stay_id[:8], version=ordered.version)
        for unreadable in self._orders.drain_unreadable():
            self._counts.unreadable_orders += 1
            _log.error("orders cannot be read; those before stay in force", stay=unreadable[:8])

    def _follow_stays(self, now_ms: int, mono_ms: int) -> list[AlarmChanged] | None:
        """Forget stays that another edge watches now, and judge by what is ordered now; None: nothing was forgotten."""
        if self._looked_ms is not None and mono_ms - self._looked_ms < LOOK_EVERY_MS:
            return None
        self._looked_ms = mono_ms
        alarms: list[AlarmChanged] | None = None
        for stay_id in self._pipeline.stays():
            self._accept_orders(stay_id)
            if (why := self._why_forget(stay_id)) is not None:
                alarms = [*(alarms or ()), *self._pipeline.forget(stay_id, now_ms, why=why)]
                self._plans.pop(stay_id, None)
                self._orders.forget(stay_id)
                self._known.discard(stay_id)
                _log.info("a patient is watched here no longer", why=why)
            elif self._newest(stay_id) is not None:
                self._known.add(stay_id)
                if self._plans.get(stay_id) != self._plan_of(stay_id):
                    self._pipeline.reorder(stay_id)
        return alarms

    def _why_forget(self, stay_id: str) -> str | None:
        """Why nothing about a stay is to be kept here; None: it is."""
        if self._is_handed_over(bytes.fromhex(stay_id)):
            return "another edge watches this patient now"
        # Documents end two weeks after the binding. One that was never read in this run may still come.
        is_dropped = stay_id in self._known and self._newest(stay_id) is None
        return "no device of this patient is at this edge any more" if is_dropped else None

    def without_device(self) -> list[bytes]:
        """Stays that are watched here although no device of the patient is left, here or elsewhere."""
        found = []
        for stay_id in map(bytes.fromhex, self._pipeline.stays()):
            known = self._directory.of_stay(stay_id)
            is_over = not known or any(one.valid_to_ms is None for one in known) or not known[-1].stay_goes_on
            if not is_over and not self._is_handed_over(stay_id):
                found.append(stay_id)
        return found

    def _is_handed_over(self, stay_id: bytes) -> bool:
        """Whether the stay goes on with devices that other edges hear, and with none that this one does."""
        known = self._directory.of_stay(stay_id)
        if not known or any(one.valid_to_ms is None for one in known):
            return False
        return known[-1].stay_goes_on and known[-1].devices_elsewhere > 0

    def answer(self, answer: Answer, now_ms: int, *, ahead_ms: int = 0) -> list[AlarmChanged]:
        """Apply what a person answered; see `Pipeline.answer`."""
        return self._pipeline.answer(answer, now_ms, ahead_ms=ahead_ms)

    def drain_forgotten(self) -> list[bytes]:
        """The stays that were handed over to another edge since the last call."""
        return [bytes.fromhex(stay_id) for stay_id in self._pipeline.drain_forgotten()]

    def drain_states(self) -> dict[bytes, bytes]:
        """Locked states of the patients that changed since the last call, by stay."""
        return self._locked(_STATE_LABEL, self._pipeline.drain_states())

    def drain_memories(self) -> dict[bytes, bytes]:
        """Locked memories of models that changed since the last call, by stay."""
        return self._locked(_MEMORY_LABEL, self._pipeline.drain_memories())

    def _locked(self, label: bytes, found: Mapping[str, bytes]) -> dict[bytes, bytes]:
        patients = {bytes.fromhex(stay_id): state for stay_id, state in found.items()}
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

    def _plan_of(self, stay_id: str) -> MonitoringPlan:
        known = self._newest(stay_id)
        if known is None:
            return MonitoringPlan(cadence_ms=self._cadence_ms, clock_bound_ms=self._clock_bound_ms)
        return plan_of(
            self._orders.of(stay_id),
            spo2_scale=known.spo2_scale,
            group=group_of(known.about),
            time_zone=known.time_zone,
            cadence_ms=self._cadence_ms,
            clock_bound_ms=self._clock_bound_ms,
        )

    def _new_plan_of(self, stay_id: str) -> MonitoringPlan:
        """The plan for a monitor that is made or reordered now."""
        self._accept_orders(stay_id)
        plan = self._plans[stay_id] = self._plan_of(stay_id)
        return plan

    def _about(self, stay_id: str) -> About:
        known = self._newest(stay_id)
        return NOTHING if known is None else known.about

    def _newest(self, stay_id: str) -> BindingRecord | None:
        """What is known of a stay, by the newest of its bindings: its facts are the same in all that are open."""
        return next(reversed(self._directory.of_stay(bytes.fromhex(stay_id))), None)


def can_read_orders(orders: StayOrders) -> bool:
    """Whether this version can judge by orders that were signed."""
    try:
        return decode_orders(orders.orders).version == orders.version
    except BadOrders:
        return False

"""What wearables send: opened, judged, handed to the keeper, and signed for once it is on disk.

A frame that cannot be read or is not for an edge is refused with a signature, and refused again each time it comes.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from edge.counts import AgentCounts
from edge.keeper import Keeper
from edge.local_alarm import LocalAlarm
from edge.outbox import Keep
from edge.patients import EdgePatients
from edge.status import DeviceStatus
from runtime.clock import Clock
from vitals.messages import AlarmChanged, AlarmState, SensorFlag
from wire.acks import AckBook
from wire.codec import EdgeAlarmV1, decode_vitals, encode
from wire.envelope import FrameClass, Stage
from wire.errors import DecodeError, Reason, Rejected
from wire.identity import LATE_MS, BindingRecord, Directory
from wire.lanes import Lanes
from wire.mqtt import Inbound
from wire.receiver import Opened, Receiver, SessionRow
from wire.topics import Topic, w_down

PENDING_ALARM_COMMIT_MS: Final = 1_000

_REFUSED_KEPT: Final = 10_000


class Intake:
    """The receiving side of one agent.

    Args:
        receiver: opens frames; knows the sessions that an earlier run received.
        acks: signs to wearables.
        local: is told every alarm that is found.
        clock: monotonic, for the age of readings in the status and for uptime.
        started_ms: monotonic: when this process started.
    """

    def __init__(
        self,
        *,
        receiver: Receiver,
        directory: Directory,
        patients: EdgePatients,
        keeper: Keeper,
        acks: AckBook,
        local: LocalAlarm,
        clock: Clock,
        started_ms: int,
        counts: AgentCounts,
    ) -> None:
        self._receiver = receiver
        self._directory = directory
        self._patients = patients
        self._keeper = keeper
        self._acks = acks
        self._local = local
        self._clock = clock
        self._started_ms = started_ms
        self._counts = counts
        self._refused: dict[tuple[bytes, int], Reason] = {}  # frames that were not signed for, the newest last
        self._sensors: dict[bytes, str] = {}
        self._devices: dict[bytes, DeviceStatus] = {}

    @property
    def sensors(self) -> Sequence[tuple[bytes, str]]:
        """Every wearable that was heard, and the state of its sensors."""
        return tuple(self._sensors.items())

    @property
    def devices(self) -> Mapping[bytes, DeviceStatus]:
        """Devices that were heard, by binding."""
        return self._devices

    def accept(
        self, client: Lanes, message: Inbound, topic: Topic, now_ms: int, mono_ms: int, *, valid_ms: int
    ) -> None:
        """A frame of a wearable. The broker is answered now where nothing is to be kept, else after the commit.

        Args:
            valid_ms: now, for the validity of credentials and bindings, which are of the data centre's clock.
        """
        try:
            found = self._receiver.receive(
                message.payload, topic_device=topic.device_id, now_ms=valid_ms, mono_ms=mono_ms
            )
        except Rejected as error:
            self._reject(error, topic)
            client.acknowledge(message)
            return
        self._keeper.acknowledge_later(message)
        if isinstance(found, Opened):
            self._accept_opened(found, now_ms)

    def keep_alarms(self, alarms: Sequence[AlarmChanged], now_ms: int) -> None:
        """Keep alarms that are due to be known, and commit without waiting for more."""
        self._local.on_alarms(alarms)
        known = [alarm for alarm in alarms if alarm.state is not AlarmState.PENDING]
        for alarm in known:
            self._counts.alarms += 1
            binding = self._binding_for(alarm.stay_id, now_ms)
            payload = encode(_edge_alarm(alarm, elsewhere=0 if binding is None else binding.devices_elsewhere))
            binding_id = bytes.fromhex(alarm.stay_id) if binding is None else binding.binding_id
            self._keeper.keep(binding_id, FrameClass.ALARM, payload, Keep.ALWAYS, now_ms)
        if alarms:
            self._keeper.want_commit(0 if known else PENDING_ALARM_COMMIT_MS)

    def _binding_for(self, stay_id: str, now_ms: int) -> BindingRecord | None:
        """The binding under which this edge speaks of a stay: the data centre has to accept what is said under it.

        The one that has been open for longest, so that it seldom changes; if none is, the one that ended last, under
        which alarms are accepted for two weeks. None: the stay is not known here.
        """
        known = self._directory.of_stay(bytes.fromhex(stay_id))
        is_open = [one for one in known if one.valid_to_ms is None]
        if is_open:
            return next((one for one in is_open if one.valid_from_ms <= now_ms), is_open[0])
        return max(known, key=lambda one: one.valid_to_ms or 0, default=None)

    def follow_bindings(self, now_ms: int, mono_ms: int) -> None:
        """Watch patients who are bound, and end the alarms of those who no longer are. A deadline outlives a crash."""
        ended = self._patients.follow_bindings(now_ms, mono_ms)
        if ended is not None:
            self._keeper.want_commit(PENDING_ALARM_COMMIT_MS)
            self.keep_alarms(ended, now_ms)

    def drain_received(self) -> Sequence[SessionRow]:
        """Received sessions that changed since the last call."""
        return self._receiver.dirty()

    def sign(self, opened: Sequence[Opened]) -> None:
        """These frames are on disk."""
        for one in opened:
            self._acks.add(one.session_id, one.sender, one.frame_class, one.counter, Stage.DURABLE)

    def send_acks(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        """Send the acknowledgements that are due to wearables."""
        for owed in self._acks.due(mono_ms=mono_ms, now_ms=now_ms):
            client.publish(w_down(owed.to), owed.frame)

    def forget_old_sessions(self, now_ms: int) -> None:
        """Let go of received sessions whose frames would be too late to be accepted."""
        forgotten = self._receiver.forget(before_ms=now_ms - LATE_MS)
        for session_id in forgotten:
            self._acks.forget(session_id)
        self._keeper.forget_received(forgotten)

    def _reject(self, error: Rejected, topic: Topic) -> None:
        self._counts.rejected[error.reason] += 1
        if error.session_id is not None and error.reason in (Reason.NEED_SESSION, Reason.CLONE_OR_ROLLBACK):
            self._acks.need_session(
                error.session_id, topic.device_id, topic.frame_class or 1, last_number=error.last_number or 0
            )

    def _accept_opened(self, opened: Opened, now_ms: int) -> None:
        if opened.duplicate:
            self._counts.duplicates += 1
            if opened.conflict:
                self._counts.rejected[Reason.COUNTER_CONFLICT] += 1
            reason = self._refused.get((opened.session_id, opened.counter))
        else:
            reason = self._accept_reading(opened, now_ms)
        if reason is None:
            self._keeper.sign_later(opened)
        else:
            self._refuse(opened, reason)

    def _accept_reading(self, opened: Opened, now_ms: int) -> Reason | None:
        """Judge a reading and keep it, or say why it is to be refused."""
        binding = self._directory.binding(opened.binding_id)
        try:
            if binding is None or opened.frame_class != FrameClass.VITALS:
                raise DecodeError(Reason.CLASS, f"class {opened.frame_class} is not for an edge")
            vitals = decode_vitals(opened.payload)
        except DecodeError as error:
            self._counts.rejected[error.reason] += 1
            return error.reason
        uptime_ms = self._clock.mono_ms() - self._started_ms
        judged = self._patients.judge(opened, vitals, binding, received_ms=now_ms, uptime_ms=uptime_ms)
        self._counts.accepted += 1
        self._note(opened, binding, battery=vitals.battery, flags=judged.message.sensor_flags)
        self._keeper.keep(binding.binding_id, FrameClass.VITALS, encode(judged.message), judged.keep, now_ms)
        self.keep_alarms(judged.alarms, now_ms)
        return None

    def _note(self, opened: Opened, binding: BindingRecord, *, battery: float | None, flags: int) -> None:
        """For heartbeat and status: the wearable was heard."""
        self._sensors[opened.sender] = "ok" if not flags else f"flags {flags}"
        self._devices[opened.binding_id] = DeviceStatus(
            name=binding.device_name, heard_ms=self._clock.mono_ms(), battery=battery, flags=_flag_names(flags)
        )

    def _refuse(self, opened: Opened, reason: Reason) -> None:
        """Sign that this frame is refused, and remember it should the frame come again."""
        self._refused[opened.session_id, opened.counter] = reason
        while len(self._refused) > _REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]
        self._acks.add(
            opened.session_id, opened.sender, opened.frame_class, opened.counter, Stage.REJECTED, reason=reason
        )


def _edge_alarm(alarm: AlarmChanged, *, elsewhere: int) -> EdgeAlarmV1:
    """An alarm as the data centre is told of it.

    Args:
        elsewhere: devices of the patient that this edge does not hear: its scores do not know what they measure.
    """
    text = alarm.text
    if elsewhere and alarm.basis in _OF_SEVERAL_SIGNS and alarm.state is AlarmState.ACTIVE:
        devices = "1 device" if elsewhere == 1 else f"{elsewhere} devices"
        text = f"{text}; at least so much: {devices} of this patient at another edge not counted"
    return EdgeAlarmV1(
        alarm_id=alarm.alarm_id,
        rule_id=alarm.rule_id,
        key=alarm.key,
        kind=alarm.kind.value,
        priority=int(alarm.priority),
        state=alarm.state.value,
        at_ms=alarm.at_ms,
        onset_ms=alarm.onset_ms,
        revision=alarm.revision,
        text=text,
        grade=alarm.grade,
    )


_OF_SEVERAL_SIGNS: Final = ("NEWS2", "qSOFA", "SIRS")


def _flag_names(flags: int) -> tuple[str, ...]:
    return tuple((one.name or "").lower().replace("_", " ") for one in SensorFlag(flags))

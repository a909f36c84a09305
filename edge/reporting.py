"""What an agent reports about itself: heartbeats to the cloud, and the status for people at the bedside."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edge.announcer import Announcer
from edge.cloud import CloudLink
from edge.counts import AgentCounts
from edge.health import HeartbeatFacts, heartbeat
from edge.intake import Intake
from edge.keeper import Keeper
from edge.local_alarm import LocalAlarm
from edge.patients import EdgePatients
from edge.status import EVERY_MS, BedStatus, DeviceStatus, Status, bed_status
from runtime.clock import Clock
from runtime.version import __version__
from vitals.messages import AlarmChanged, AlarmState, ClockQuality, Priority
from wire.envelope import FrameClass
from wire.identity import Provision, in_their_beds
from wire.lanes import Lanes

OVERDUE_MS: Final = 30_000
"""A commit that is overdue by so much, on a disk that is not full, is a defect; then there is no progress to report."""


EARLY_BEATS: Final = 4
EARLY_BEAT_MS: Final = 12_000
"""Between the first heartbeats: two that are ten seconds apart show the data centre how far the clocks are apart."""


class Parts(NamedTuple):
    """The parts of an agent that reports are about."""

    keeper: Keeper
    patients: EdgePatients
    intake: Intake
    cloud: CloudLink
    announcer: Announcer
    local: LocalAlarm
    counts: AgentCounts


class HeartbeatReporter:
    """Sends heartbeats while readings can be kept.

    Args:
        boot_id: of this process; readings carry it, too.
        started_ms: monotonic: when this process started.
        every_ms: between two heartbeats.
        alive_file: is touched with every heartbeat, so only by an agent that makes progress.
    """

    def __init__(
        self, parts: Parts, clock: Clock, *, boot_id: bytes, started_ms: int, every_ms: int, alive_file: Path
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._every_ms = every_ms
        self._alive_file = alive_file
        self._boot_id = boot_id
        self._started_ms = started_ms
        self._due_ms = 0
        self._sent = 0

    def beat_within(self, within_ms: int) -> None:
        """Send the next heartbeat in so many milliseconds at the latest."""
        self._due_ms = min(self._due_ms, self._clock.mono_ms() + within_ms)

    def beat_if_due(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        """Send a heartbeat if one is due and can leave."""
        parts = self._parts
        if mono_ms < self._due_ms or not parts.cloud.can_beat(client) or parts.keeper.is_stuck:
            return
        self._due_ms = mono_ms + (min(self._every_ms, EARLY_BEAT_MS) if self._sent < EARLY_BEATS else self._every_ms)
        self._sent += 1
        parts.intake.forget_old_sessions(now_ms)
        body = heartbeat(self._boot_id, __version__, self._facts(now_ms, mono_ms))
        parts.cloud.beat(client, body, now_ms, mono_ms)
        self._alive_file.write_text(f"{now_ms}\n", encoding="ascii")

    def _facts(self, now_ms: int, mono_ms: int) -> HeartbeatFacts:
        parts, outbox = self._parts, self._parts.keeper.outbox
        return HeartbeatFacts(
            at_ms=now_ms,
            uptime_ms=mono_ms - self._started_ms,
            clock_quality=int(ClockQuality.FREE_RUNNING),
            outbox_rows=outbox.depth,
            outbox_oldest_ms=outbox.oldest_ms(),
            outbox_used=outbox.used(),
            last_counters=parts.keeper.committed_counters(),
            void=(),
            closed=(),
            model=parts.patients.judged_by,
            sensors=parts.intake.sensors,
            rejected=parts.counts.rejected,
            salvaged=outbox.start.text,
            local_alarms=parts.counts.local_alarms,
            duplicates=parts.counts.duplicates,
            documents=parts.announcer.digest,
        )


class StatusReporter:
    """Gives the status to a callback every second.

    Args:
        has_wallet: whether this edge is enrolled, so that its credential ends.
        report: None: nothing is reported.
    """

    def __init__(
        self,
        parts: Parts,
        provision: Provision,
        clock: Clock,
        *,
        has_wallet: bool,
        report: Callable[[Status], None] | None,
    ) -> None:
        self._parts = parts
        self._provision = provision
        self._has_wallet = has_wallet
        self._report = report
        self._started_ms = clock.mono_ms()
        self._progress_ms = self._due_ms = self._started_ms

    def report_if_due(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        """Report if a second has passed.

        Raises:
            OutboxDamaged: the outbox was read, and turned out to be.
        """
        if self._report is not None and mono_ms >= self._due_ms:
            self._due_ms = mono_ms + EVERY_MS
            self._report(self._status(client, now_ms, mono_ms))

    def _status(self, client: Lanes, now_ms: int, mono_ms: int) -> Status:
        keeper, patients, outbox = self._parts.keeper, self._parts.patients, self._parts.keeper.outbox
        oldest_ms = outbox.oldest_ms()  # reads the file: an agent that cannot even do that makes no progress
        due_ms = keeper.commit_due_ms
        if keeper.is_stuck or due_ms is None or mono_ms - due_ms <= OVERDUE_MS:
            self._progress_ms = mono_ms
        return Status(
            version=__version__,
            device=self._provision.me.device_id.hex(),
            mono_ms=mono_ms,
            at_ms=now_ms,
            started_ms=self._started_ms,
            progress_ms=self._progress_ms,
            lanes={
                "readings": client.is_up(int(FrameClass.VITALS)),
                "alarms": client.is_up(int(FrameClass.ALARM)),
            },
            heard_ms=self._parts.cloud.heard_ms,
            waiting=outbox.depth,
            oldest_age_ms=None if oldest_ms is None else max(now_ms - oldest_ms, 0),
            used=outbox.used(),
            salvaged=outbox.start.text,
            stuck=keeper.is_stuck,
            alarms=_by_priority(patients.open_alarms()),
            sounding=self._parts.local.sounding,
            models=patients.judged_by,
            refused_models=patients.refused_models,
            credential_ends_ms=self._provision.me.not_after_ms if self._has_wallet else None,
            beds=self._beds(),
            refused_observations=self._parts.counts.refused_observations,
            clock_ms=self._parts.cloud.clock_ms(now_ms, mono_ms),
        )

    def _beds(self) -> tuple[BedStatus, ...]:
        """A line for each stay that is watched here, in the order of the beds."""
        directory, heard = self._provision.directory, self._parts.intake.devices
        stays: dict[bytes, list[DeviceStatus]] = {}
        for one in in_their_beds(directory.bindings()):
            name = one.device_name or one.wearable_id.hex()[:8]
            status = heard.get(one.binding_id, DeviceStatus())
            stays.setdefault(one.stay_id, []).append(msgspec.structs.replace(status, name=name))
        for stay_id in self._parts.patients.without_device():
            stays.setdefault(stay_id, [])
        found = []
        for stay_id, devices in stays.items():
            known = directory.of_stay(stay_id)
            elsewhere = max(one.devices_elsewhere for one in known if one.valid_to_ms is None or not devices)
            orders = self._parts.patients.orders_version(stay_id.hex())
            found.append(bed_status(known[-1].bed, devices, elsewhere=elsewhere, orders=orders))
        return tuple(sorted(found, key=lambda one: one.bed))


def _by_priority(alarms: Sequence[AlarmChanged]) -> dict[str, int]:
    """The number of open alarms of each priority, without pending ones."""
    found = {one.name.lower(): 0 for one in sorted(Priority, reverse=True)}
    for alarm in alarms:
        if alarm.state is not AlarmState.PENDING:
            found[alarm.priority.name.lower()] += 1
    return found

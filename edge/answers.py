"""What people answered in the data centre, applied to this edge's own alarms, so that they do not sound here either."""

from edge.counts import AgentCounts
from edge.keeper import Keeper
from edge.local_alarm import LocalAlarm
from edge.patients import EdgePatients
from wire.answers import open_answer
from wire.errors import Rejected
from wire.identity import Provision


class AnswerIntake:
    """Accepts ANSWER frames of the cloud.

    Args:
        provision: identity of this edge, and the keys that the cloud signs with.
        local: is told every alarm that changed.
    """

    def __init__(
        self, provision: Provision, *, patients: EdgePatients, keeper: Keeper, local: LocalAlarm, counts: AgentCounts
    ) -> None:
        self._provision = provision
        self._patients = patients
        self._keeper = keeper
        self._local = local
        self._counts = counts

    def accept(self, frame: bytes, now_ms: int, *, ahead_ms: int = 0) -> None:
        """Apply an answer; `ahead_ms` as of `Pipeline.answer`.

        It may be a recording, so it does not show that the cloud is there. The alarms that it changes are not sent to
        the cloud, which has sent it.
        """
        try:
            answer = open_answer(frame, self._provision.me.device_id, *self._provision.recipient_keys)
        except Rejected as error:
            self._counts.rejected[error.reason] += 1
            return
        alarms = self._patients.answer(answer, now_ms, ahead_ms=ahead_ms)
        if alarms:
            self._local.on_alarms(alarms)
            self._keeper.want_commit(0)

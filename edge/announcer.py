"""Documents of the data centre: accepted into the wallet, in force at once, and announced to wearables."""

from collections.abc import Iterator
from typing import Final

from edge.counts import AgentCounts
from runtime import logs
from wire.enrol.documents import EVERYBODY, DocumentType
from wire.enrol.wallet import Wallet
from wire.envelope import FrameClass
from wire.errors import Rejected
from wire.identity import Directory
from wire.lanes import Lanes
from wire.topics import w_down

ANNOUNCE_EVERY_MS: Final = 300_000
ANSWER_EVERY_MS: Final = 1_000  # at most, to a wearable that asks
ENDED_BINDING_MS: Final = 86_400_000
"""For so long after its end a binding is still announced."""

_MOST_AT_ONCE: Final = 64
_SIGNATURE_END: Final = 16  # bytes that tell frames apart: the end of the signature

_log = logs.get(__name__)


class Announcer:
    """Tells wearables which patient they are on, and the keys that this edge signs with and is sealed to.

    It is repeated when they ask, and every few minutes; what they know already costs them nothing.

    Args:
        wallet: documents of the data centre; None: none arrive, and nothing is announced.
        directory: bindings of this edge.
    """

    def __init__(self, wallet: Wallet | None, directory: Directory, device_id: bytes, counts: AgentCounts) -> None:
        self._wallet = wallet
        self._directory = directory
        self._device_id = device_id
        self._counts = counts
        self._seen_changes = 0 if wallet is None else wallet.changes
        self._has_news = False
        self._next_round_ms = 0
        self._answered: dict[bytes, int] = {}  # wearables of ours that asked, and when they were answered
        self._announced: set[tuple[bytes, bytes]] = set()  # wearable, and the end of a frame that it was sent

    @property
    def digest(self) -> bytes:
        """Digest of the documents that this edge has accepted; empty without a wallet."""
        return b"" if self._wallet is None else self._wallet.digest

    def accept(self, frame: bytes) -> None:
        """A document, over MQTT: verified, kept, and in force from now on."""
        try:
            document = None if self._wallet is None else self._wallet.take(frame)
        except Rejected as error:
            self._counts.rejected[error.reason] += 1
            return
        if document is None:
            return
        self._counts.documents += 1
        _log.info("document accepted", kind=document.type.name.lower(), version=document.version)

    def drain_change(self) -> bool:
        """Whether documents were accepted since the last call, over MQTT or with an answer of the registry."""
        if self._wallet is None or self._wallet.changes == self._seen_changes:
            return False
        self._seen_changes = self._wallet.changes
        self._has_news = True
        return True

    def restart_round(self) -> None:
        """Announce everything again: the broker may have lost what it was given."""
        self._next_round_ms = 0

    def on_question(self, wearable_id: bytes, mono_ms: int) -> None:
        """A wearable asks: it was not connected, or not ours yet, when its documents were announced."""
        if mono_ms - self._answered.get(wearable_id, -ANSWER_EVERY_MS) < ANSWER_EVERY_MS:
            return
        announced = {one for one in self._announced if one[0] == wearable_id}
        if announced:
            self._answered[wearable_id] = mono_ms
            self._announced -= announced
            self._has_news = True

    def announce(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        """Send what is due, as far as the connection has room."""
        if self._wallet is None or not client.is_up(FrameClass.VITALS):
            return
        if mono_ms >= self._next_round_ms:
            self._next_round_ms = mono_ms + ANNOUNCE_EVERY_MS
            self._announced.clear()
            self._has_news = True
        room = min(client.room(FrameClass.VITALS) // 2, _MOST_AT_ONCE)
        for wearable_id, frame in self._due(self._wallet, now_ms) if self._has_news else ():
            if room == 0 or not client.publish(w_down(wearable_id), frame):
                return
            room -= 1
            self._announced.add((wearable_id, frame[-_SIGNATURE_END:]))
        self._has_news = False

    def _due(self, wallet: Wallet, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
        general = (
            wallet.frame(DocumentType.CONTROL_KEYS, EVERYBODY),
            wallet.frame(DocumentType.DEVICE, self._device_id),
        )
        for binding in self._directory.bindings():
            if binding.valid_to_ms is not None and binding.valid_to_ms + ENDED_BINDING_MS < now_ms:
                continue
            for frame in (*general, wallet.frame(DocumentType.ASSIGNMENT, binding.binding_id)):
                if frame is not None and (binding.wearable_id, frame[-_SIGNATURE_END:]) not in self._announced:
                    yield binding.wearable_id, frame

"""The documents that a device has accepted, as the frames they came in: a file each, and a digest of all of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.errors import NotPrivate
from runtime.hardening import make_private_dir, read_private, write_private
from runtime.logs import get
from wire.enrol.documents import (
    BindingV1,
    Content,
    ControlKeysV1,
    DeviceV1,
    Document,
    DocumentType,
    OrdersV1,
    digest_of,
    open_document,
)
from wire.enrol.records import binding_of
from wire.errors import Rejected
from wire.identity import LATE_MS, DeviceIdentity

_log = get(__name__)

DocumentKey = tuple[int, bytes]
"""Type and subject: of each there is one document, with a rising version."""


class KeptDocuments:
    """The newest version of every document, in memory and in a folder.

    Args:
        folder: is made with the first document.
        me: the device that keeps them.
    """

    def __init__(self, folder: Path, me: DeviceIdentity) -> None:
        self._folder = folder
        self._me = me
        self._versions: dict[DocumentKey, int] = {}
        self._frames: dict[DocumentKey, bytes] = {}
        self._contents: dict[DocumentKey, Content] = {}

    def read(
        self, known: Mapping[bytes, Ed25519PublicKey], prekeys: Mapping[bytes, X25519PrivateKey]
    ) -> Iterator[Document]:
        """Open the documents in the folder again, and keep those that can be opened.

        Args:
            known: keys that sign or have signed documents.
        """
        for path in sorted(self._folder.glob("*.doc")):
            frame = read_private(path)
            try:
                document = open_document(frame, known, prekeys=prekeys)
            except Rejected as error:
                # The data centre sees by the digest that it is missing, and sends it again.
                _log.warning("a kept document cannot be used", file=path.name, reason=error.reason.value)
                continue
            self.put(document, frame)
            yield document

    def is_new(self, document: Document) -> bool:
        """Whether it is younger than the version that is kept."""
        return document.version > self._versions.get(_key(document), 0)

    def write(self, document: Document, frame: bytes) -> None:
        """Write the file of a document. A full disk is logged: it must not keep a revocation from being in force."""
        path = self._folder / f"{int(document.type)}-{document.subject.hex()}.doc"
        try:
            make_private_dir(self._folder)
            # One that a power cut takes is sent again: the data centre sees by the digest that it is missing.
            write_private(path, frame, durable=False)
        except (OSError, NotPrivate) as error:
            _log.warning("a document could not be kept", file=path.name, problem=str(error))

    def put(self, document: Document, frame: bytes) -> None:
        """Keep a document in memory."""
        key = _key(document)
        self._versions[key] = document.version
        self._frames[key] = frame
        self._contents[key] = document.content

    def frame(self, kind: DocumentType, subject: bytes) -> bytes | None:
        """The frame of a document, to be passed on."""
        return self._frames.get((int(kind), subject))

    @property
    def digest(self) -> bytes:
        """Eight bytes for the versions of all documents that this device should have; the data centre compares them."""
        return digest_of({key: self._versions[key] for key in self._expected()})

    def _expected(self) -> Iterator[DocumentKey]:
        """What the registry expects: a binding ends two weeks after its end, and with it the device that it names.

        The time is that of this device's own document, which both sides know. The version of a document that is over
        is kept, so that an older state of it is never accepted again. Orders are expected with a binding of their stay.
        """
        mine, is_edge = self._me.device_id, self._me.role == "edge"
        after_ms = self._versions.get((int(DocumentType.DEVICE), mine), 0) - LATE_MS
        named, stays = {mine}, set[bytes]()
        for key, content in self._contents.items():
            if isinstance(content, ControlKeysV1):
                yield key
            elif not isinstance(content, DeviceV1 | OrdersV1):
                is_over = content.valid_to_ms is not None and content.valid_to_ms <= after_ms
                if not is_over and (not is_edge or content.edge_id == mine):
                    named.add(content.wearable_id if isinstance(content, BindingV1) else content.edge_id)
                    yield key
                    if isinstance(content, BindingV1):
                        stays.add(binding_of(key[1], content).stay_id)
        for key, content in self._contents.items():
            if isinstance(content, OrdersV1) and key[1] in stays:
                yield key
            if isinstance(content, DeviceV1) and (key[1] in named or (is_edge and content.role == "ingest")):
                yield key


def _key(document: Document) -> DocumentKey:
    return int(document.type), document.subject

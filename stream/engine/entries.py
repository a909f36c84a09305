"""What people enter, on its way from `vl.orders.v1` to the readings of its patient: answers and observations. Pure."""

from typing import Final

from stream.records import AnswerRecord, ObservationRecord, decode_patient_record, encode_record
from wire.errors import DecodeError, Reason

MAX_NAME_CHARACTERS: Final = 200


def forward_entry(value: bytes | None) -> tuple[bytes, bytes]:
    """Key and value of the record of `vl.readings.v1` for an entry.

    Raises:
        DecodeError: the value is no entry, or has no valid person or stay.
    """
    entry = decode_patient_record(value)
    if not isinstance(entry, AnswerRecord | ObservationRecord):
        raise DecodeError(Reason.SCHEMA, "another record in the topic of entries")
    message = entry.message
    if not message.by or len(message.by) > MAX_NAME_CHARACTERS or len(message.stay_id) != 32:
        raise DecodeError(Reason.VALUE, "an entry needs the name of a person and a stay")
    return message.stay_id.encode(), encode_record(entry)

"""What people want of alarms, on its way to the patient it concerns. Pure."""

from typing import Final

from stream.records import OrderRecord, decode_patient_record, encode_record
from wire.errors import DecodeError, Reason

MAX_NAME_CHARACTERS: Final = 200


def forward_order(value: bytes | None) -> tuple[bytes, bytes]:
    """An order as it stands in the line of its patient's readings: key and value.

    Raises:
        DecodeError: it is none, or names nobody.
    """
    order = decode_patient_record(value)
    if not isinstance(order, OrderRecord):
        raise DecodeError(Reason.SCHEMA, "a reading among the orders")
    message = order.message
    if not message.by or len(message.by) > MAX_NAME_CHARACTERS or len(message.binding_id) != 32:
        raise DecodeError(Reason.VALUE, "an order names who wants it, and a binding")
    return message.binding_id.encode(), encode_record(order)

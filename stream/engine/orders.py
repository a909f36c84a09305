"""Orders, the acknowledgements and silences of alarms: from `vl.orders.v1` to the readings of their patient. Pure."""

from typing import Final

from stream.records import OrderRecord, decode_patient_record, encode_record
from wire.errors import DecodeError, Reason

MAX_NAME_CHARACTERS: Final = 200


def forward_order(value: bytes | None) -> tuple[bytes, bytes]:
    """Key and value of the record of `vl.readings.v1` for an order.

    Raises:
        DecodeError: the value is not an order, or has no valid person or binding.
    """
    order = decode_patient_record(value)
    if not isinstance(order, OrderRecord):
        raise DecodeError(Reason.SCHEMA, "another record in the topic of orders")
    message = order.message
    if not message.by or len(message.by) > MAX_NAME_CHARACTERS or len(message.binding_id) != 32:
        raise DecodeError(Reason.VALUE, "an order needs the name of a person and a binding")
    return message.binding_id.encode(), encode_record(order)

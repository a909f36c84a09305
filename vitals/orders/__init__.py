"""Orders: what is watched of a patient, by whom it was ordered and why. Levels, files, bytes, words, plans.

Pure, as the whole kernel: files are read and orders are signed elsewhere.
"""

from vitals.errors import BadOrders
from vitals.orders.check import OrderFinding, check
from vitals.orders.level import OBSERVE, OrderLevel, Prescription, QuietHours, RuleChange
from vitals.orders.levels import DEFAULT, applied, effective
from vitals.orders.loosened import Loosening, loosened, loosened_between, needs_prescriber
from vitals.orders.order_file import parse_toml, schema, to_toml
from vitals.orders.orders import MAX_BYTES, LevelNote, Orders, decode_orders, encode_orders, newer
from vitals.orders.plans import plan_of
from vitals.orders.profiles import PROFILES
from vitals.orders.words import in_words

__all__ = [
    "DEFAULT",
    "MAX_BYTES",
    "OBSERVE",
    "PROFILES",
    "BadOrders",
    "LevelNote",
    "Loosening",
    "OrderFinding",
    "OrderLevel",
    "Orders",
    "Prescription",
    "QuietHours",
    "RuleChange",
    "applied",
    "check",
    "decode_orders",
    "effective",
    "encode_orders",
    "in_words",
    "loosened",
    "loosened_between",
    "needs_prescriber",
    "newer",
    "parse_toml",
    "plan_of",
    "schema",
    "to_toml",
]

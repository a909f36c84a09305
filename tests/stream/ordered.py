"""Orders for tests, in a few words."""

from vitals.orders import Orders, applied, encode_orders, parse_toml


def orders(version: int, said: str = "", *, until: str = "") -> Orders:
    """The orders of a patient for whom a file with these tables was signed by a prescriber."""
    level = parse_toml(f'[order]\nlevel = "patient"\nby = "dr lee"\nwhy = "as agreed"\n{until}\n{said}')
    found = applied(level, Orders(version))
    encode_orders(found)
    return found


def signed(version: int, said: str = "") -> bytes:
    """The same as it travels."""
    return encode_orders(orders(version, said))

"""What is ordered at a site, level by level, kept for ever; and the orders of each stay that follow, signed.

Of one level the newest order without an end holds. Orders with an end that were set after it lie on top of it until
they end. A newer order without an end replaces both. What a stay's orders are in the end is `vitals.orders`.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from runtime.clock import Clock
from runtime.logs import get
from stream.errors import OrdersRefused
from stream.site.audit import records
from stream.site.documents import SignedDocuments
from stream.site.registry_file import RegistryFile
from stream.site.stays import Stays
from vitals.orders import (
    PROFILES,
    BadOrders,
    OrderFinding,
    OrderLevel,
    Orders,
    check,
    decode_orders,
    effective,
    encode_orders,
    needs_prescriber,
    parse_toml,
)
from vitals.orders.level import LevelName
from wire.identity import LATE_MS, BindingRecord, SenderRecord, StayOrders

_COLUMNS: Final = "level, key, version, said, who, why, set_ms, from_ms, until_ms, by_prescriber"

_log = get(__name__)


class OrderScope(NamedTuple):
    """What an order is for: the site, a ward, a profile, or one stay of a patient."""

    level: LevelName
    key: str = ""  # name of the ward or the profile, id of the stay in hex; of the site: empty

    def __str__(self) -> str:
        if self.level == "patient":
            return f"patient in stay {self.key[:12]}"
        return f"{self.level} {self.key}".strip()


SITE: Final = OrderScope("site")
ORDERED: Final = "ordered"
"""The kind of the change in the audit log."""


class SetOrder(NamedTuple):
    """One order as it was set; times in ms since 1970."""

    place: OrderScope
    version: int  # of this level, from 1
    said: str  # TOML
    who: str
    why: str
    set_ms: int
    from_ms: int
    until_ms: int | None  # None: until it is replaced
    by_prescriber: bool

    @property
    def digest(self) -> str:
        """Identifies what was said, in the audit log."""
        return sha256(self.said.encode()).hexdigest()


class Registered(Protocol):
    """The part of the registry that orders need."""

    @property
    def stays(self) -> Stays: ...
    def of_stay(self, stay_id: bytes) -> list[BindingRecord]: ...
    def sender(self, device_id: bytes) -> SenderRecord | None: ...


def scope_of(level: LevelName, name: str) -> OrderScope:
    """A level by its name as people write it."""
    return OrderScope(level, _name_key(name))


def ward_of(bed: str) -> str:
    """The ward of a bed: its name before the last slash, as it is compared.

    >>> ward_of("Ward 7/4"), ward_of("4")
    ('ward 7', '')
    """
    return _name_key(bed.rpartition("/")[0])


class SiteOrders:
    """The orders in a registry file."""

    def __init__(self, registry: Registered, file: RegistryFile, documents: SignedDocuments, clock: Clock) -> None:
        self._registry = registry
        self._file = file
        self._documents = documents
        self._clock = clock

    # Setting

    def set(
        self,
        place: OrderScope,
        said: str,
        *,
        who: str,
        why: str,
        from_ms: int | None = None,
        until_ms: int | None = None,
        by_prescriber: bool = False,
        after: int | None = None,
        account: str = "",
    ) -> SetOrder:
        """Order something at one level, from now on or from `from_ms` on.

        Args:
            said: TOML, see docs/orders.md; says only what differs from the levels below.
            who: the person who orders.
            why: empty: as the text says; so with `from_ms` and `until_ms`, where None is as the text says.
            until_ms: its end, excluded; where neither says one: until it is replaced.
            by_prescriber: the person has proved to be a prescriber.
            account: the system user that the command ran as.
            after: the version of this level that the person has seen; None: whichever is the newest.

        Raises:
            OrdersRefused: why, and the fix. Nothing has changed.
        """
        order = self.draft(
            place, said, who=who, why=why, from_ms=from_ms, until_ms=until_ms, by_prescriber=by_prescriber
        )
        place, version = order.place, order.version
        problems = [one.text for one in self.findings(order) if one.is_error]
        if problems:
            raise OrdersRefused(f"{place}: " + "\n".join(problems))
        if after is not None and after + 1 != version:
            raise OrdersRefused(f"{place}: version {version - 1} was set meanwhile, you have seen {after}; look again")
        with self._file.change(
            ORDERED,
            who=who,
            subject=_subject(place),
            level=place.level,
            version=version,
            why=order.why,
            sha256=order.digest,
            from_ms=order.from_ms,
            until_ms=order.until_ms,
            prescriber=int(by_prescriber),
            account=account,
        ):
            if self.newest_version(place) + 1 != version:
                raise OrdersRefused(f"{place}: another order was set at the same moment; look again")
            self._file.execute(
                f"INSERT INTO order_level ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our columns
                (*place, *order[1:8], int(by_prescriber)),
            )
            for stay_id in self.stays_of(place):
                self.publish(stay_id, is_asked=True)
        return order

    def draft(
        self,
        place: OrderScope,
        said: str,
        *,
        who: str,
        why: str = "",
        from_ms: int | None = None,
        until_ms: int | None = None,
        by_prescriber: bool = False,
        file: str = "",
    ) -> SetOrder:
        """An order as it would be set. What is not given is as the text says.

        Raises:
            OrdersRefused: the text cannot be read, or is for another level.
        """
        place, now_ms = OrderScope(place.level, _name_key(place.key)), self._clock.now_ms()
        level = _parsed(said, file)
        if level.level != place.level:
            raise OrdersRefused(f'{file or "the order"}: order.level is "{level.level}", and it is set for {place}')
        if level.level in ("ward", "profile") and level.name and _name_key(level.name) != place.key:
            raise OrdersRefused(f'{file or "the order"}: order.name is "{level.name}", and it is set for {place}')
        begins_ms = from_ms if from_ms is not None else level.valid_from_ms
        return SetOrder(
            place,
            self.newest_version(place) + 1,
            said,
            who,
            why or level.why,
            now_ms,
            now_ms if begins_ms is None else begins_ms,
            until_ms if until_ms is not None else level.valid_until_ms,
            by_prescriber,
        )

    def findings(self, order: SetOrder) -> list[OrderFinding]:
        """What is wrong with an order on top of what holds beneath it, errors first. Raises OrdersRefused."""
        if order.place.level == "patient":
            self._check_patient(order.place)
        return check(self.level_of(order), self.beneath(order), now_ms=self._clock.now_ms(), profiles=self._profiles())

    def needs_prescriber(self, order: SetOrder) -> list[str]:
        """What in an order only a prescriber may order; empty: nothing. Raises OrdersRefused."""
        return needs_prescriber(self.level_of(order), self.beneath(order), self._profiles())

    def level_of(self, order: SetOrder) -> OrderLevel:
        """What an order says, for the kernel. Raises OrdersRefused: it cannot be read."""
        place = order.place
        return msgspec.structs.replace(
            _parsed(order.said),
            level=place.level,
            name="" if place.level in ("patient", "site") else place.key,
            by=order.who,
            why=order.why,
            by_prescriber=order.by_prescriber,
            valid_from_ms=order.from_ms,
            valid_until_ms=order.until_ms,
        )

    def _check_patient(self, place: OrderScope) -> None:
        stay = self._registry.stays.get(bytes.fromhex(place.key))
        if stay is None or stay.to_ms is not None:
            raise OrdersRefused(f"{place}: has ended, or is not known; who is monitored: vitalloom registry stays")

    # Looking

    def history(self, place: OrderScope) -> list[SetOrder]:
        """Every order that was set at one level, the oldest first."""
        return _orders(
            self._file.execute(
                f"SELECT {_COLUMNS} FROM order_level WHERE level = ? AND key = ? ORDER BY version",  # noqa: S608
                (place.level, _name_key(place.key)),
            )
        )

    def places(self) -> list[OrderScope]:
        """Every place for which something was ever ordered."""
        rows = self._file.execute("SELECT DISTINCT level, key FROM order_level ORDER BY level, key")
        return [OrderScope(*row) for row in rows]

    def newest_version(self, place: OrderScope) -> int:
        """The version of the newest order at one level; 0: there was none."""
        row = self._file.execute(
            "SELECT max(version) FROM order_level WHERE level = ? AND key = ?", (place.level, _name_key(place.key))
        ).fetchone()
        return int(row[0] or 0)

    def of_stay(self, stay_id: bytes) -> StayOrders | None:
        """The orders of a stay as they were signed; None: nothing was ever ordered for it."""
        row = self._file.execute("SELECT version, orders FROM stay_orders WHERE stay_id = ?", (stay_id,)).fetchone()
        return None if row is None else StayOrders(int(row[0]), bytes(row[1]))

    def in_force(self, place: OrderScope, *, also: SetOrder | None = None) -> list[SetOrder]:
        """What holds at one level now or will, the newest on top, each cut to the time for which it holds.

        Args:
            also: an order that is looked at as if it was set.
        """
        now_ms, history = self._clock.now_ms(), self.history(place)
        if also is not None and also.place == place:
            history = [*history, also]
        found = []
        for order in history:
            later = [one.from_ms for one in history if one.version > order.version and one.until_ms is None]
            ends = [*later, *([] if order.until_ms is None else [order.until_ms])]
            end_ms = min(ends, default=None)
            if end_ms is None or (end_ms > now_ms and end_ms > order.from_ms):
                found.append(order._replace(until_ms=end_ms))
        return found

    def beneath(self, order: SetOrder) -> Orders:
        """What holds beneath an order: the levels below, and of its own level what it does not replace."""
        places = self.places_to(order.place)
        return self._effective(places if order.until_ms is not None else places[:-1])

    def effective(self, place: OrderScope) -> Orders:
        """What holds at one level with all below it, now."""
        return self._effective(self.places_to(place))

    def preview(self, order: SetOrder) -> Orders:
        """What would hold at the level of an order if it was set."""
        return self._effective(self.places_to(order.place), also=order)

    def without_audit(self) -> list[str]:
        """Orders in this file that no line of the audit log is about, or that say something else than was set."""
        noted: dict[tuple[str, str, int], str] = {}
        for record in records(self._file.audit.path):
            detail = record.detail
            if record.what == ORDERED:
                key = str(detail.get("level")), record.subject, _number(detail.get("version"))
                noted[key] = str(detail.get("sha256"))
        return [
            f"{order.place}, version {order.version}"
            for place in self.places()
            for order in self.history(place)
            if noted.get((place.level, _subject(place), order.version)) != order.digest
        ]

    # Their documents

    def publish(self, stay_id: bytes, *, sealed_again_to: bytes | None = None, is_asked: bool = False) -> None:
        """Sign the orders of a stay for every edge that hears it. Call within a transaction.

        Args:
            sealed_again_to: an edge that has a new prekey: sign it even if they are unchanged.
            is_asked: a person sets an order: what cannot be signed is refused. Otherwise the orders before stay.

        Raises:
            OrdersRefused: the levels do not fit together.
        """
        known = self._registry.of_stay(stay_id)
        places = self._places_of(stay_id)
        if not known or (not any(self.newest_version(one) for one in places) and self.of_stay(stay_id) is None):
            return
        try:
            orders = self._follow(stay_id, places)
        except BadOrders as error:
            if is_asked:
                raise OrdersRefused(f"bed {known[-1].bed}: the levels do not fit together: {error}") from error
            _log.error("orders cannot be signed; those before stay in force", stay=stay_id.hex(), problem=str(error))
            return
        after_ms = self._clock.now_ms() - LATE_MS
        edges = {one.edge_id for one in known if one.valid_to_ms is None or one.valid_to_ms > after_ms}
        for edge_id in sorted(edges):
            edge = self._registry.sender(edge_id)
            if edge is not None and edge.recipient is not None:
                self._documents.sign_orders(stay_id, orders, edge.recipient, always=edge_id == sealed_again_to)

    def renew(self) -> int:
        """Sign the orders again of stays of which one has begun or ended meanwhile; how many these were.

        Whoever has the orders before knows this as well: nothing depends on when this is called.
        """
        due = self._file.execute(
            "SELECT stay_id FROM stay_orders WHERE until_ms <= ?", (self._clock.now_ms(),)
        ).fetchall()
        for (stay_id,) in due:
            with self._file.change("orders of a stay began or ended", who="registry", subject=stay_id.hex()):
                self.publish(stay_id)
                self._file.execute(
                    "UPDATE stay_orders SET until_ms = NULL WHERE stay_id = ? AND until_ms <= ?",
                    (stay_id, self._clock.now_ms()),
                )
        return len(due)

    def _follow(self, stay_id: bytes, places: Sequence[OrderScope]) -> StayOrders:
        """The orders of a stay that follow from its levels, with a new version if they say something else."""
        before, now_ms = self.of_stay(stay_id), self._clock.now_ms()
        orders = self._effective(places)
        if before is not None and _says(orders) == _says_now(before, now_ms):
            return before
        # Above every earlier one even if this database was restored from a backup: the clock has gone on meanwhile.
        version = max(now_ms, 0 if before is None else before.version + 1)
        orders = msgspec.structs.replace(orders, version=version)
        signed = StayOrders(version, encode_orders(orders))
        self._file.execute(
            "INSERT OR REPLACE INTO stay_orders VALUES (?, ?, ?, ?)",
            (stay_id, version, orders.until_ms, signed.orders),
        )
        return signed

    def _effective(self, places: Sequence[OrderScope], *, also: SetOrder | None = None) -> Orders:
        levels = [self.level_of(order) for place in places for order in self.in_force(place, also=also)]
        there = {place.key for place in places if place.level == "profile"}
        for name in dict.fromkeys(one.profile for one in levels if one.profile):
            if name not in there:
                levels += [self.level_of(order) for order in self.in_force(OrderScope("profile", name))]
        return effective(levels, version=0, now_ms=self._clock.now_ms())

    def _profiles(self) -> dict[str, OrderLevel]:
        """The profiles of this version, and those that the site has ordered itself."""
        places = [one for one in self.places() if one.level == "profile"]
        own = {place.key: self.level_of(order) for place in places for order in self.in_force(place)}
        return {**PROFILES, **own}

    def places_to(self, place: OrderScope) -> list[OrderScope]:
        """A level and those below it, the lowest first."""
        if place.level == "patient":
            return self._places_of(bytes.fromhex(place.key))
        return [SITE] if place.level == "site" else [SITE, place]

    def _places_of(self, stay_id: bytes) -> list[OrderScope]:
        """The levels that a stay has, the lowest first; its profile is chosen by one of them."""
        stay = self._registry.stays.get(stay_id)
        ward = "" if stay is None else ward_of(stay.bed)
        return [SITE, *([OrderScope("ward", ward)] if ward else []), OrderScope("patient", stay_id.hex())]

    def stays_of(self, place: OrderScope) -> list[bytes]:
        """The stays for which a level matters."""
        if place.level == "patient":
            return [bytes.fromhex(place.key)]
        return [one.stay_id for one in self._registry.stays.open()]


def _subject(place: OrderScope) -> str:
    return place.key if place.level == "patient" else str(place)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _parsed(said: str, file: str = "") -> OrderLevel:
    try:
        return parse_toml(said, file=file)
    except BadOrders as error:
        raise OrdersRefused(str(error)) from error


def _says(orders: Orders) -> Orders:
    return msgspec.structs.replace(orders, version=0, as_of_ms=0, from_ms=0)


def _says_now(before: StayOrders, now_ms: int) -> Orders | None:
    try:
        return _says(decode_orders(before.orders).at(now_ms))
    except BadOrders:  # of another version of this program
        return None


def _orders(rows: Iterable[Sequence[Any]]) -> list[SetOrder]:
    return [SetOrder._make((OrderScope(row[0], row[1]), *row[2:9], bool(row[9]))) for row in rows]


def _name_key(name: str) -> str:
    return " ".join(name.split()).casefold()

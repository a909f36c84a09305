"""Who has which role now, and at which recipients each of them is reached. Replaced as a whole when a file changes."""

from collections.abc import Mapping, Sequence

from stream.desk.decisions import Delivery
from stream.desk.notify import Address, Addresses
from vitals.escalation import Due


class People:
    """The people of a site.

    Args:
        roles: people of each role.
        addresses: how they are reached.
    """

    def __init__(self, roles: Mapping[str, Sequence[str]], addresses: Addresses) -> None:
        self.roles = roles
        self.addresses = addresses

    def calls_of(self, due: Due, *, due_ms: int | None = None) -> list[Delivery]:
        """A notification to every recipient of everybody who has its role now; empty if nobody has the channel.

        Args:
            due_ms: None: as the notification says.
        """
        return [
            Delivery(
                key=due.key,
                person=person,
                recipient=address.recipient,
                channel=due.channel,
                who=due.who,
                alarm_id=due.alarm_id,
                priority=due.priority,
                due_ms=due.due_ms if due_ms is None else due_ms,
            )
            for person in dict.fromkeys(self.roles.get(due.who, ()))
            for address in self.addresses.recipients(person, due.channel)
        ]

    def may_be_called(self, one: Delivery) -> bool:
        """Whether the person still has the role, and the recipient is still one of the person's address."""
        return one.person in self.roles.get(one.who, ()) and self.address_of(one) is not None

    def address_of(self, one: Delivery) -> Address | None:
        """The address of one recipient; None if it was removed."""
        return self.addresses.recipient(one.person, one.channel, one.recipient)

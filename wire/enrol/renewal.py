"""Upkeep of an enrolled device: renew credentials and prekeys, delete expired ones, say what could not be renewed.

Every hour, and after a failure again after a minute, then two, four, up to an hour. Requests run in a thread, so that a
slow registry does not delay readings; their results are applied here.
"""

import asyncio
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.clock import Clock
from runtime.logs import get
from wire.enrol.client import announce_prekey, ask_renewal
from wire.enrol.wallet import Wallet
from wire.errors import EnrolmentFailed, NotEnrolled, Rejected

EVERY_S: Final = 3_600.0
FIRST_RETRY_S: Final = 60.0
LOOK_S: Final = 10.0

_log = get(__name__)


async def keep_up(
    wallet: Wallet, clock: Clock, *, every_s: float = EVERY_S, first_retry_s: float = FIRST_RETRY_S
) -> None:
    """Keep a wallet up to date until cancelled."""
    floor = TimeFloor(wallet, clock)
    retry_s = first_retry_s
    while True:
        await look_after(wallet, floor.now_ms())
        failed = bool(wallet.renewal_problem)
        await _rest(wallet, min(retry_s, every_s) if failed else every_s)
        retry_s = min(2 * retry_s, every_s) if failed else first_retry_s


async def _rest(wallet: Wallet, seconds: float) -> None:
    """Wait, and use an identity that was replaced meanwhile, as the command `vitalloom enrol --again` does."""
    while seconds > 0:
        await asyncio.sleep(min(seconds, LOOK_S))
        seconds -= LOOK_S
        try:
            if wallet.follow_file():
                _log.info("the replaced identity is in use", device=wallet.me.device_id.hex())
        except NotEnrolled as error:
            if str(error) != wallet.renewal_problem:
                _log.error("the replaced identity is not in use", problem=str(error))
            wallet.renewal_problem = str(error)
    await asyncio.sleep(0)


class TimeFloor:
    """The wall clock; while that is before the wallet's newest fact, the time of this fact, running on from there.

    A machine without a battery for its clock starts in 1970 or where it was switched off. A device must not count its
    certificate as new for as long as nobody sets the clock.
    """

    def __init__(self, wallet: Wallet, clock: Clock) -> None:
        self._clock = clock
        self._newest_ms = wallet.newest_ms
        self._began_ms = clock.mono_ms()

    def now_ms(self) -> int:
        now_ms = self._clock.now_ms()
        return now_ms if now_ms >= self._newest_ms else self._newest_ms + self._clock.mono_ms() - self._began_ms


async def look_after(wallet: Wallet, now_ms: int) -> None:
    """One round. A failure is logged once for each reason, and kept in `wallet.renewal_problem` until it is over."""
    wants_renewal = wallet.wants_renewal(now_ms)
    try:
        wallet.forget_old(now_ms)
        if (wants_renewal or wallet.wants_prekey(now_ms)) and wallet.unannounced is None:
            wallet.add_prekey(os.urandom(8), X25519PrivateKey.generate(), now_ms=now_ms)
        if wants_renewal:
            reply, keys = await asyncio.to_thread(ask_renewal, wallet)
            wallet.renewed(reply, keys)
            _log.info("device certificate renewed", device=wallet.me.device_id.hex())
        elif wallet.wants_prekey(now_ms):
            told = await asyncio.to_thread(announce_prekey, wallet, now_ms=now_ms)
            wallet.accept_all(told.documents)
            _log.info("new prekey", device=wallet.me.device_id.hex())
    except (EnrolmentFailed, Rejected, OSError) as error:  # a full disk is no reason to stop recording
        _log.warning("could not renew", problem=str(error))
        wallet.renewal_problem = str(error)
    else:
        wallet.renewal_problem = ""
    if (problem := wallet.expiry(now_ms)) is not None:
        _log.error("device certificate has expired or expires soon", problem=problem)

"""Hourly upkeep of an enrolled device: renew credentials and prekeys, delete expired ones, log expiry.

Requests run in a thread, so that a slow registry does not delay readings; their results are applied here.
"""

import asyncio
import os
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.logs import get
from wire.enrol.client import announce_prekey, ask_renewal
from wire.enrol.wallet import Wallet
from wire.errors import EnrolmentFailed, Rejected

EVERY_S: Final = 3_600.0

_log = get(__name__)


class _WallTime(Protocol):
    def now_ms(self) -> int: ...


async def keep_up(wallet: Wallet, clock: _WallTime, *, every_s: float = EVERY_S) -> None:
    """Keep a wallet up to date until cancelled."""
    while True:
        await look_after(wallet, clock.now_ms())
        await asyncio.sleep(every_s)


async def look_after(wallet: Wallet, now_ms: int) -> None:
    """One round. A failed request is logged, and tried again in the next round."""
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
    if (problem := wallet.expiry(now_ms)) is not None:
        _log.error("device certificate has expired or expires soon", problem=problem)

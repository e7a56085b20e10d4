"""What somebody has to do now and then, and no worker may be there to do it."""

from __future__ import annotations

import asyncio
import logging

from anyio import to_thread

from dse.service.api.service import Service
from dse.service.storage.errors import Unavailable

log = logging.getLogger("dse.service")


async def keep_up(service: Service) -> None:
    """Do what was asked of studies whose worker is gone and remove copies of deleted traces, again and again.

    At first also remove what uploads left behind.
    """
    swept = False
    while True:
        try:
            if not swept:
                await to_thread.run_sync(service.traces.remove_orphans)
                swept = True
            await to_thread.run_sync(service.studies.settle)
            await to_thread.run_sync(service.traces.remove_copies, service.settings.data)
        except Unavailable as error:
            log.warning("upkeep waits for the database: %s", error)
        except Exception:
            log.exception("upkeep failed")
        await asyncio.sleep(service.settings.lease_s)

"""Revisions of studies, looked up together."""

from __future__ import annotations

import asyncio

from anyio import to_thread

from dse.service.storage.studies import Studies


class Revisions:
    """Looks up revisions of studies: what is asked for while a query runs goes into the next one."""

    def __init__(self, studies: Studies) -> None:
        self._studies = studies
        self._waiting: dict[str, asyncio.Future[int | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def of(self, id: str) -> int | None:
        """Return a study's revision now; None if there is no such study."""
        if (future := self._waiting.get(id)) is None:
            future = self._waiting[id] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._serve())
        return await asyncio.shield(future)

    async def _serve(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                found = await to_thread.run_sync(self._studies.revisions, list(asked))
            except Exception as error:
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # whoever asked may be gone
            else:
                for id, future in asked.items():
                    future.set_result(found.get(id))
        self._task = None

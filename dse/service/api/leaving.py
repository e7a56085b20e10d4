"""Clients that leave before they are answered: a slider that moved on, a page that was closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


class Left(Exception):
    """The client is not there any more."""


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what work returns, and give it up when the client leaves: what waits for the bench waits no more.

    Parameters
    ----------
    request
        Whose body was read.
    work
        What it asks for.

    Raises
    ------
    Left
        If the client left first.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Left
        return await working
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

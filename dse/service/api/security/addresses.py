"""Where a request comes from, as limits count it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope


def address_of(scope: Scope) -> str:
    """Return the address of who asks; of IPv6 the network, of which everybody has a whole one to choose from."""
    client = scope.get("client")
    return _counted(client[0]) if client else ""


@lru_cache(maxsize=1024)
def _counted(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return ":".join(address.exploded.split(":")[:4])
    return host

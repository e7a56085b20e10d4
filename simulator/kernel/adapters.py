"""Which adapters (LoRA) lie on a client: places used last first, as many as it may mix in a batch."""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import PLACE_ADAPTER, PLACE_FIELDS, PLACE_LAST, PLACE_USERS


@compiled
def place_of(client, scratch, adapter):
    """Return the place of an adapter in scratch, -1 if it is not on the client."""
    for i in range(client.max_adapters):
        place = client.adapters + PLACE_FIELDS * i
        if scratch[place + PLACE_ADAPTER] == adapter:
            return place
    return -1


@compiled
def is_adapter_refused(client, scratch, adapter):
    """Tell whether the running requests have as many other adapters as a batch may mix."""
    if adapter == 0 or client.active_adapters < client.max_adapters or client.max_adapters == 0:
        return False
    place = place_of(client, scratch, adapter)
    return place < 0 or scratch[place + PLACE_USERS] == 0


@compiled
def idle_place(client, scratch):
    """Return the place whose last user was admitted longest ago, among those without users."""
    best = -1
    for i in range(client.max_adapters):
        place = client.adapters + PLACE_FIELDS * i
        unused = scratch[place + PLACE_USERS] == 0
        if unused and (best < 0 or scratch[place + PLACE_LAST] < scratch[best + PLACE_LAST]):
            best = place
    return best


@compiled
def take_adapter(client, scratch, adapter):
    """Count a request that is admitted as a user of its adapter, which is loaded if it is not there."""
    if adapter == 0 or client.max_adapters == 0:
        return
    place = place_of(client, scratch, adapter)
    if place < 0:
        place = idle_place(client, scratch)
        scratch[place + PLACE_ADAPTER] = adapter
        client.extra_ps += client.adapter_load_ps
    if scratch[place + PLACE_USERS] == 0:
        client.active_adapters += 1
    scratch[place + PLACE_USERS] += 1
    client.admissions += 1
    scratch[place + PLACE_LAST] = client.admissions


@compiled
def release_adapter(client, scratch, adapter):
    """Count a request that no longer runs off its adapter."""
    if adapter == 0 or client.max_adapters == 0:
        return
    place = place_of(client, scratch, adapter)
    scratch[place + PLACE_USERS] -= 1
    if scratch[place + PLACE_USERS] == 0:
        client.active_adapters -= 1

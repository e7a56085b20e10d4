"""Entries of a prefix cache or of a tier: a hash table by chunk and a list by last use.

Caches and entries are offsets in scratch. The hash table holds entries (0: none), at most half full, probed one by one;
a removal moves later entries of the same run back, so that no gap ends a search too early (Knuth, The Art of Computer
Programming, section 6.4, algorithm R). Vacant entries are linked by what is their newer neighbour while in use.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.layout import (
    CACHE_BEHIND,
    CACHE_CAPACITY,
    CACHE_MASK,
    CACHE_NEWEST,
    CACHE_OLDEST,
    CACHE_SIZE,
    CACHE_SPILLS,
    CACHE_STORED_CHUNKS,
    CACHE_TABLE,
    CACHE_VACANT,
    ENTRY_CHUNK,
    ENTRY_NEWER,
    ENTRY_OLDER,
    ENTRY_REFERENCES,
)

SPREAD = 73244475


@compiled
def home_of(cache, scratch, chunk):
    """Return where in the hash table the search for a chunk begins."""
    return ((chunk * SPREAD) >> 9) & scratch[cache + CACHE_MASK]


@compiled
def find(cache, scratch, chunk):
    """Return the entry of a chunk, 0 if the cache does not hold it."""
    table = scratch[cache + CACHE_TABLE]
    slot = home_of(cache, scratch, chunk)
    entry = scratch[table + slot]
    while entry > 0 and scratch[entry + ENTRY_CHUNK] != chunk:
        slot = (slot + 1) & scratch[cache + CACHE_MASK]
        entry = scratch[table + slot]
    return entry


@compiled
def append_newest(cache, scratch, entry):
    """Make an entry the most recently used one."""
    newest = scratch[cache + CACHE_NEWEST]
    scratch[entry + ENTRY_OLDER] = newest
    scratch[entry + ENTRY_NEWER] = 0
    if newest > 0:
        scratch[newest + ENTRY_NEWER] = entry
    else:
        scratch[cache + CACHE_OLDEST] = entry
    scratch[cache + CACHE_NEWEST] = entry


@compiled
def unlink(cache, scratch, entry):
    """Take an entry out of the list by last use."""
    older, newer = scratch[entry + ENTRY_OLDER], scratch[entry + ENTRY_NEWER]
    if older > 0:
        scratch[older + ENTRY_NEWER] = newer
    else:
        scratch[cache + CACHE_OLDEST] = newer
    if newer > 0:
        scratch[newer + ENTRY_OLDER] = older
    else:
        scratch[cache + CACHE_NEWEST] = older


@compiled
def add(cache, scratch, chunk):
    """Return a new entry for a chunk, without references and in no list; there is a vacant one."""
    entry = scratch[cache + CACHE_VACANT]
    scratch[cache + CACHE_VACANT] = scratch[entry + ENTRY_NEWER]
    scratch[entry + ENTRY_CHUNK] = chunk
    scratch[entry + ENTRY_REFERENCES] = 0
    scratch[cache + CACHE_SIZE] += 1
    table = scratch[cache + CACHE_TABLE]
    slot = home_of(cache, scratch, chunk)
    while scratch[table + slot] > 0:
        slot = (slot + 1) & scratch[cache + CACHE_MASK]
    scratch[table + slot] = entry
    return entry


@compiled
def remove(cache, scratch, entry):
    """Forget an entry that is in no list."""
    table, mask = scratch[cache + CACHE_TABLE], scratch[cache + CACHE_MASK]
    gap = home_of(cache, scratch, scratch[entry + ENTRY_CHUNK])
    while scratch[table + gap] != entry:
        gap = (gap + 1) & mask
    slot = (gap + 1) & mask
    while scratch[table + slot] > 0:
        home = home_of(cache, scratch, scratch[scratch[table + slot] + ENTRY_CHUNK])
        # It may fill the gap unless its search begins behind it.
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            scratch[table + gap] = scratch[table + slot]
            gap = slot
        slot = (slot + 1) & mask
    scratch[table + gap] = 0
    scratch[entry + ENTRY_NEWER] = scratch[cache + CACHE_VACANT]
    scratch[cache + CACHE_VACANT] = entry
    scratch[cache + CACHE_SIZE] -= 1


@compiled
def touch(cache, scratch, entry):
    """Make an entry of a list the most recently used one."""
    unlink(cache, scratch, entry)
    append_newest(cache, scratch, entry)


@compiled
def store(scratch, tier, chunk):
    """Store a chunk in a tier; what leaves it for want of room may go to the tier behind."""
    while tier >= 0 and scratch[tier + CACHE_CAPACITY] > 0:
        entry = find(tier, scratch, chunk)
        if entry > 0:
            touch(tier, scratch, entry)
            return
        left = -1
        if scratch[tier + CACHE_SIZE] == scratch[tier + CACHE_CAPACITY]:
            oldest = scratch[tier + CACHE_OLDEST]
            left = scratch[oldest + ENTRY_CHUNK]
            unlink(tier, scratch, oldest)
            remove(tier, scratch, oldest)
        append_newest(tier, scratch, add(tier, scratch, chunk))
        scratch[tier + CACHE_STORED_CHUNKS] += 1
        if left < 0 or scratch[tier + CACHE_SPILLS] == 0:
            return
        chunk = left
        tier = scratch[tier + CACHE_BEHIND]


@compiled
def store_through(scratch, tier, chunk):
    """Store a chunk in a tier and in all behind it, nearest first."""
    while tier >= 0:
        store(scratch, tier, chunk)
        tier = scratch[tier + CACHE_BEHIND]

"""What may be in the way of a request, each with one line for a person."""

from __future__ import annotations


class NotFound(Exception):
    """Nothing has that name."""


class Conflict(Exception):
    """Something is in a state in which this cannot be done."""


class TooMany(Exception):
    """A limit of the service is reached for now."""


class NoRoom(Exception):
    """More is to be kept than the service allows."""


class Unavailable(Exception):
    """The database is away, or a disk has no room; the message is for whoever runs the service."""

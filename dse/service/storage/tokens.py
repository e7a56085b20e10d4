"""Tokens that let programs and people in; only their hashes are kept."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, get_args

from sqlalchemy import ColumnElement, delete, insert, or_, select

from dse.service.storage.database import Database
from dse.service.storage.errors import NotFound
from dse.service.storage.tables import TOKENS
from simulator import SpecError

Scope = Literal["read", "run", "admin"]
"""Each may do what the ones before may."""
PREFIX: Final = "dse_"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_C: Final = TOKENS.c
_SHOWN: Final = [_C.id, _C.name, _C.scope, _C.created_s, _C.expires_s]


@dataclass(frozen=True)
class TokenRow:
    """A token without its secret; times are seconds since 1970, ``expires_s`` is None for ever."""

    id: str
    name: str
    scope: Scope
    created_s: float
    expires_s: float | None


class Tokens:
    """The tokens of a database.

    Parameters
    ----------
    database
        With the tables of the service.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scope: Scope, days: float | None) -> tuple[TokenRow, str]:
        """Make a token and return it with its secret, which cannot be read again.

        Parameters
        ----------
        name
            Whose it is, for people.
        scope
            What it allows.
        days
            After which it ends; None for never.

        Raises
        ------
        SpecError
            If one of them is not usable.
        """
        if not (0 < len(name) <= 200 and name.isprintable()):
            raise SpecError(f"name: given {name[:200]!r}; allowed: 1 to 200 printable characters")
        if scope not in get_args(Scope):
            raise SpecError(f"scope: given {scope!r}; allowed: {', '.join(get_args(Scope))}")
        if days is not None and not 0 < days <= 36_500:
            raise SpecError(f"days: given {days:g}; allowed: above 0, up to 36,500")
        # 256 random bits: nobody guesses them, so that a plain hash is enough.
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._database.now
        values = {
            "id": uuid.uuid4().hex,
            "name": name,
            "sha256": _hash(secret),
            "scope": scope,
            "created_s": now,
            "expires_s": None if days is None else now + days * 86_400.0,
        }
        with self._database.writing() as connection:
            row = connection.execute(insert(TOKENS).values(values).returning(*_SHOWN)).one()
        return TokenRow(**row._mapping), secret

    def check(self, secret: str) -> TokenRow | None:
        """Return the token of a secret; None if there is none, or no longer."""
        with self._database.reading() as connection:
            row = connection.execute(select(*_SHOWN).where(_C.sha256 == _hash(secret), self._valid)).one_or_none()
        return TokenRow(**row._mapping) if row else None

    def good(self, ids: Collection[str]) -> set[str]:
        """Return those of some tokens that are neither revoked nor expired."""
        with self._database.reading() as connection:
            return set(connection.execute(select(_C.id).where(_C.id.in_(ids), self._valid)).scalars())

    @property
    def _valid(self) -> ColumnElement[bool]:
        return or_(_C.expires_s.is_(None), _C.expires_s > self._database.now)

    def list(self) -> list[TokenRow]:
        """Return all tokens, the oldest first, expired ones too."""
        with self._database.reading() as connection:
            rows = connection.execute(select(*_SHOWN).order_by(_C.created_s, _C.id))
            return [TokenRow(**row._mapping) for row in rows]

    def revoke(self, id: str) -> None:
        """End a token.

        Raises
        ------
        NotFound
            If there is none of that identifier.
        """
        gone = delete(TOKENS).where(_C.id == id).returning(_C.id)
        if _ID.fullmatch(id):
            with self._database.writing() as connection:
                if connection.execute(gone).one_or_none():
                    return
        raise NotFound(f"no token {id!r}")

    def any(self) -> bool:
        """Tell whether there is a token, expired or not."""
        with self._database.reading() as connection:
            return connection.execute(select(_C.id).limit(1)).one_or_none() is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

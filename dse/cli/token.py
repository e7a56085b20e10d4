"""``dse token``: who may use a server."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from dse.cli.console import err, out, print_whole
from dse.cli.service_options import Data, Storage, StorageFile, check_installed, opened, settings_of
from simulator.errors import SpecError

token_app = typer.Typer(name="token", help="Make, list and revoke tokens of a server.", no_args_is_help=True)


class Scope(StrEnum):
    """What a token allows."""

    read = "read"
    run = "run"
    admin = "admin"


@token_app.command()
def create(
    name: Annotated[str, typer.Argument(help="whose it is, for people")],
    scope: Annotated[
        Scope, typer.Option(help="read; run: also make studies and simulate; admin: also delete, and tokens")
    ] = Scope.run,
    days: Annotated[float | None, typer.Option(help="how long it is valid", show_default="for ever")] = None,
    data: Data = None,
    storage: Storage = None,
    storage_file: StorageFile = None,
) -> None:
    """Make a token and print it, this once: only its hash is kept.

    **Examples**

        dse token create anna --scope run

        dse token create nightly-job --scope run --days 90 --storage postgresql://dse@head/studies
    """
    check_installed()
    from dse.service.storage.tokens import Tokens

    with opened(settings_of(data, storage, storage_file)) as database:
        row, secret = Tokens(database).create(name, scope.value, days)
    err.print(f"{row.scope} token {row.id} for {name}; it is not shown again:", soft_wrap=True)
    out.print(secret, soft_wrap=True)


@token_app.command(name="list")
def list_tokens(data: Data = None, storage: Storage = None, storage_file: StorageFile = None) -> None:
    """List tokens, without their secrets.

    **Example**

        dse token list
    """
    check_installed()
    from dse.service.storage.tokens import Tokens

    with opened(settings_of(data, storage, storage_file)) as database:
        rows = Tokens(database).list()
    table = Table("id", "name", "scope", "made", "valid until")
    for row in rows:
        table.add_row(row.id, row.name, row.scope, _day(row.created_s), _day(row.expires_s))
    print_whole(table)


@token_app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="id of the token (see: dse token list)")],
    data: Data = None,
    storage: Storage = None,
    storage_file: StorageFile = None,
) -> None:
    """Make a token invalid at once.

    **Example**

        dse token revoke 5f0c7c1d0a2b4e6f8a9b0c1d2e3f4a5b
    """
    check_installed()
    from dse.service.storage.errors import NotFound
    from dse.service.storage.tokens import Tokens

    with opened(settings_of(data, storage, storage_file)) as database:
        try:
            Tokens(database).revoke(id)
        except NotFound as error:
            raise SpecError(str(error)) from None


def _day(seconds: float | None) -> str:
    return "for ever" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")

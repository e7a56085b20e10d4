"""What commands share: where they print, how they fail, and numbers as people read them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

OK, BAD_INPUT, NOT_FEASIBLE, INTERRUPTED = 0, 2, 3, 130
"""Exit codes: done; input at fault; no design (or not this one) keeps the SLOs; stopped by Ctrl-C."""

_literal = partial(Console, highlight=False, markup=False, emoji=False)
"""Paths and names of people's own stand in what is printed: brackets and colons in them are just that."""

out = _literal()
err = _literal(stderr=True)


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: figures that are cut short to fit the window would be of no use."""
    wide = _literal(width=1000)
    _literal(width=wide.measure(table).maximum).print(table)


def print_titled(title: str, text: str) -> None:
    """Print a text after a title in bold."""
    out.print(Text.assemble((title, "bold"), ": ", text), soft_wrap=True)


def progress(*more: ProgressColumn) -> Progress:
    """Return a line that renews itself on the error output, and is nothing without a terminal.

    Parameters
    ----------
    more
        What stands behind the description of a task, its bar, and its field ``state``.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    name, state = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[state]"))
    columns = name, BarColumn(bar_width=20), state, *more
    return Progress(*columns, console=err, transient=True, refresh_per_second=5, disable=not err.is_terminal)


def announce_compilation() -> None:
    """Compile the kernel if it is not in the cache, and say so: nobody likes to wait without knowing why."""
    import time

    from simulator.kernel import cache_folder, is_cached, warm_up

    if is_cached():
        return
    start = time.perf_counter()
    with err.status("compiling the simulator's kernel, once for this installation (10 to 25 s) …"):
        warm_up()
    kept = "kept for next time" if cache_folder() else "not kept, as no folder is writable: set DSE_CACHE_DIR"
    err.print(f"compiled the simulator's kernel in {time.perf_counter() - start:.0f} s, {kept}")

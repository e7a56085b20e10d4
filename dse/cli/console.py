"""What commands share: where they print, how they fail, and numbers as people read them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

OK, BAD_INPUT, NOT_FEASIBLE, INTERRUPTED = 0, 2, 3, 130
"""Exit codes: done; input at fault; no design (or not this one) keeps the SLOs; stopped by Ctrl-C."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: figures that are cut short to fit the window would be of no use."""
    wide = Console(width=1000, highlight=False)
    Console(width=wide.measure(table).maximum, highlight=False).print(table)


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

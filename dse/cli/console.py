"""What commands share: where they print, how they fail, and numbers as people read them."""

from __future__ import annotations

import math

from rich.console import Console

OK, BAD_INPUT, NOT_FEASIBLE, INTERRUPTED = 0, 2, 3, 130
"""Exit codes: done; input at fault; no design (or not this one) keeps the SLOs; stopped by Ctrl-C."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def seconds(value: float) -> str:
    """Return a duration with three digits and a fitting unit."""
    if math.isinf(value):
        return "never"
    if math.isnan(value):
        return "-"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 600 else f"{value / 60:.3g} min"


def figure(name: str, value: float) -> str:
    """Return a figure in the form that its name asks for."""
    if name.endswith("_s") and not name.endswith("_per_s"):
        return seconds(value)
    if name.startswith("usd"):
        return f"{value:,.2f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def announce_compilation() -> None:
    """Compile the kernel if it is not in the cache, and say so: nobody likes to wait without knowing why."""
    import time

    from simulator.kernel import is_cached, warm_up

    if is_cached():
        return
    start = time.perf_counter()
    with err.status("compiling the simulator's kernel, once for this installation (10 to 25 s) …"):
        warm_up()
    err.print(f"compiled the simulator's kernel in {time.perf_counter() - start:.0f} s, kept for next time")

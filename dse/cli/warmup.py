"""``dse warmup``: compile the kernel before it is needed."""

from __future__ import annotations

from dse.cli.console import announce_compilation, out


def warmup() -> None:
    """Compile the simulator's kernel, if that was not done yet, and say where it is kept."""
    from simulator.kernel import cache_folder

    announce_compilation()
    out.print(f"kernel compiled: {cache_folder()}", soft_wrap=True)

"""The command's first lines: Ctrl-C ends it quietly, also while it is still importing."""

from __future__ import annotations

import sys


def main() -> None:
    """Import and run the command line."""
    try:
        from dse.cli.main import main as run_command

        run_command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)

"""``python -m dse`` is the command ``dse``."""

from dse.cli.entry import main

main()

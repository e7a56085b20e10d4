"""``python -m dse`` is the command ``dse``."""

from dse.cli.main import main

main()

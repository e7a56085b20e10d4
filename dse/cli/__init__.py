"""The command ``dse``."""

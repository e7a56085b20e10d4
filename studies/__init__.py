"""Shipped studies: a YAML file each, read by ``dse.library``."""

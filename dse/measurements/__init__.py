"""Measurements of others that the simulator is compared with: read where they are installed, never copied."""

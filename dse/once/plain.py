"""Figures as JSON may hold them."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """Return figures as JSON may hold them: what is not finite (latencies of rejected requests) is null."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

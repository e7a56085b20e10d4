"""One thing that may vary, and when it matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.errors import SpecError

Value = str | int | float | bool

Condition = tuple[str, tuple[Value, ...]]
"""An earlier dimension, and those of its values under which another one is active."""


@dataclass(frozen=True)
class Dimension:
    """A named choice between values, active only under a condition on an earlier choice.

    Attributes
    ----------
    name
        Unique in a space; the part before the last dot is the pool or stage it concerns, e.g. ``decode.tp``.
    values
        What may be chosen, in the order of the specification.
    meaning
        One line for reports and documentation.
    when
        Earlier dimension and those of its values under which this one is active; None: always.
    """

    name: str
    values: tuple[Value, ...]
    meaning: str
    when: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse a dimension without values or with a value twice."""
        if not self.values:
            raise SpecError(f"{self.name}: at least one value is needed, given none")
        if len(set(self.values)) < len(self.values):
            raise SpecError(f"{self.name}: values must differ, given {list(self.values)}")

    def is_active(self, chosen: Mapping[str, Value]) -> bool:
        """Tell whether the dimension matters, given the active choices made before it."""
        if self.when is None:
            return True
        name, values = self.when
        return name in chosen and chosen[name] in values

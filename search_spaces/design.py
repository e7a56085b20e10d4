"""One point of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from search_spaces.dimension import Value


class Design(Mapping[str, Value]):
    """The active choices of one design: an immutable, hashable mapping in the order of the space."""

    def __init__(self, choices: Mapping[str, Value]) -> None:
        self._choices = dict(choices)
        self._hash = hash(frozenset(self._choices.items()))

    def __getitem__(self, name: str) -> Value:
        """Return the value chosen for an active dimension."""
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of active dimensions."""
        return iter(self._choices)

    def __len__(self) -> int:
        """Return the number of active dimensions."""
        return len(self._choices)

    def __hash__(self) -> int:
        """Hash by content, so that equal designs are evaluated once."""
        return self._hash

    def __reduce__(self) -> tuple[type[Design], tuple[dict[str, Value]]]:
        """Pickle the choices alone: every process has its own hashes of words."""
        return Design, (self._choices,)

    def __repr__(self) -> str:
        """Return the choices in short."""
        return f"Design({', '.join(f'{name}={value}' for name, value in self.items())})"

    def text(self, name: str) -> str:
        """Return a choice that is a word."""
        value = self._choices[name]
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r}, not a word")
        return value

    def number(self, name: str) -> int:
        """Return a choice that is a whole number."""
        value = self._choices[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} is {value!r}, not a whole number")
        return value

    def real(self, name: str) -> float:
        """Return a choice that is a number."""
        value = self._choices[name]
        if not isinstance(value, int | float):
            raise TypeError(f"{name} is {value!r}, not a number")
        return float(value)

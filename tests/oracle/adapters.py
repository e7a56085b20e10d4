"""Adapters: which ones a client keeps."""

from collections.abc import Sequence

from .request import Request


class Adapters:
    """The adapters that a client keeps, the one whose last user was admitted longest ago first."""

    def __init__(self, places: int) -> None:
        self.places = places  # 0: adapters are not looked at
        self.kept: list[int] = []

    def matters(self, request: Request) -> bool:
        return self.places > 0 and request.given.adapter != 0

    def in_use(self, running: Sequence[Request]) -> set[int]:
        """The different adapters among the running requests."""
        return {r.given.adapter for r in running if self.matters(r)}

    def refuses(self, head: Request, running: Sequence[Request]) -> bool:
        in_use = self.in_use(running)
        return self.matters(head) and head.given.adapter not in in_use and len(in_use) >= self.places

    def admit(self, request: Request, running: Sequence[Request]) -> bool:
        """Note an admission beside the `running`; whether the adapter must be loaded for it."""
        if not self.matters(request):
            return False
        adapter = request.given.adapter
        must_load = adapter not in self.kept
        if must_load and len(self.kept) == self.places:
            in_use = self.in_use(running)
            self.kept.remove(next(a for a in self.kept if a not in in_use))
        if not must_load:
            self.kept.remove(adapter)
        self.kept.append(adapter)
        assert len(self.kept) <= self.places
        return must_load

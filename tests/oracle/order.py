"""The order of a waiting queue."""

from .request import Request

ORDERS = ("fcfs", "shortest_first", "least_work_left", "priority", "earliest_deadline")


def rank_of(order: str, request: Request) -> int:
    """What a request is ordered by, taken when it joins a queue."""
    return {
        "fcfs": 0,  # not looked at
        "shortest_first": request.prompt + request.generated,
        "least_work_left": request.tokens_to_prefill + request.tokens_to_generate,
        "priority": request.given.priority,
        "earliest_deadline": request.deadline_ps,
    }[order]


class Queue:
    """Waiting requests, in order of joining; `head` knows who is next."""

    def __init__(self, order: str) -> None:
        assert order in ORDERS
        self.order = order
        self.requests: list[Request] = []

    def __len__(self) -> int:
        return len(self.requests)

    def join(self, request: Request) -> None:
        assert request not in self.requests
        request.rank = rank_of(self.order, request)
        self.requests.append(request)

    def join_again(self, request: Request) -> None:
        """A preempted request joins: with `fcfs` at the front."""
        self.join(request)
        self.requests.insert(0, self.requests.pop())

    def joined_by(self, time_ps: int) -> list[Request]:
        return [request for request in self.requests if request.joined_ps <= time_ps]

    def head(self, joined_by_ps: int) -> Request | None:
        """The first of those that joined by some time, if there are any."""
        considered = self.joined_by(joined_by_ps)
        if self.order == "fcfs":
            return considered[0] if considered else None
        return min(considered, key=lambda request: (request.rank, request.index), default=None)

    def remove(self, request: Request) -> None:
        self.requests.remove(request)

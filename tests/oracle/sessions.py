"""Sessions: requests that arrive when others are done."""

from collections.abc import Iterator, Sequence

from .request import Request


def release(now: int, done: Request, requests: Sequence[Request]) -> Iterator[tuple[int, Request]]:
    """The followers of a request that is done which arrive now, with the time of their arrival."""
    given = done.given
    for follower in requests[given.first_follower : given.first_follower + given.followers]:
        follower.needs -= 1
        if follower.needs == 0:
            follower.former = done.outcome.finish_client
            yield now + max(1, follower.given.wait_ps), follower


def check_sessions(requests: Sequence[Request]) -> None:
    """What sessions may be like."""
    arrivals = [r.given.arrival_ps for r in requests if r.needs == 0]
    assert arrivals == sorted(arrivals), "requests that need no others must be sorted by arrival"
    for request in requests:
        given = request.given
        assert min(given.needs, given.wait_ps, given.followers) >= 0
        assert given.followers == 0 or 0 <= given.first_follower <= len(requests) - given.followers


def check_all_arrived(requests: Sequence[Request]) -> None:
    """At the end exactly those have arrived of which as many others are done as they need."""
    for request in requests:
        done = [r for r in requests if r.outcome.done_ps != -1 and request.index in followers_of(r)]
        arrived = request.outcome.arrival_ps != -1
        assert arrived == (len(done) >= request.given.needs)
        if request.given.needs > 0 and arrived:
            released = sorted(r.outcome.done_ps for r in done)[request.given.needs - 1]
            assert request.outcome.arrival_ps == released + max(1, request.given.wait_ps)


def followers_of(request: Request) -> range:
    first = request.given.first_follower
    return range(first, first + request.given.followers)

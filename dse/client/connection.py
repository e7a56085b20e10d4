"""HTTP with patience: what can be repeated safely is, until the service answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dse.client.errors import ProblemError, ServiceAway
from simulator.errors import SpecError

if TYPE_CHECKING:
    import httpx

BUSY: Final = frozenset({429, 503})
"""Statuses that say: not now. Nothing was done."""
FIRST_ANSWER_S: Final = 3.0
"""Patience with an address that never answered: it is more often wrong than slow."""
REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
"""Methods that leave the same behind when they are repeated."""
Body = Callable[[], Iterator[bytes]]
"""Opens what is to be sent, once for each attempt."""


class Connection:
    """A service's address, a token, and how long to wait.

    Parameters
    ----------
    url
        Address of the service; ``http://`` may be left out.
    token
        Sent with every request, to this address only.
    patience_s
        How long a request is repeated while the service is away or busy.
    timeout_s
        How long an answer may take.
    """

    def __init__(self, url: str, token: str | None, *, patience_s: float, timeout_s: float) -> None:
        try:
            import httpx
        except ImportError:
            raise SpecError("dse.Client needs httpx: pip install 'dse-llm[client]'") from None

        self.url = _checked(url)
        self._patience_s, self._has_answered = patience_s, False
        self._lost: type[Exception] = httpx.TransportError
        self._never_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
        self._too_slow = httpx.ReadTimeout
        headers = {"User-Agent": f"dse-client/{version('dse-llm')}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            # A proxy of the environment does not lead to this machine itself.
            trust_env=urlsplit(self.url).hostname not in {"127.0.0.1", "::1", "localhost"},
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> httpx.Response:
        """Send a request and return its answer, read to the end.

        Parameters
        ----------
        method, path, params, json, headers
            Of the request.
        body
            What to send instead of JSON.
        repeatable
            Whether the request may be sent again if it may already have been received; by its method if None.

        Raises
        ------
        ProblemError
            If the service refuses.
        ServiceAway
            If it does not answer.
        """
        again = method in REPEATABLE if repeatable is None else repeatable
        patience = self.patience()
        while True:
            try:
                response = self._http.request(
                    method, path, params=params, json=json, content=body() if body else None, headers=headers
                )
            except self._too_slow as error:
                # The service may be at it still: asking again would only add to its work.
                raise ServiceAway(f"{self.url}: {method} {path}: no answer in time") from error
            except self._lost as error:
                if not (again or isinstance(error, self._never_sent)):
                    raise ServiceAway(f"{self.url}: {method} {path}: {said(error)}") from error
                patience.wait(error)
                continue
            self._has_answered = True
            if response.status_code in BUSY and patience.allows(response):
                continue
            if response.is_success:
                return response
            raise problem_of(response)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of an answer; see :meth:`send`."""
        response = self.send(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise ServiceAway(f"{self.url}: {path}: what answers there is no dse serve") from None

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, quiet_s: float
    ) -> Iterator[httpx.Response]:
        """Open an answer that is read as it comes.

        Parameters
        ----------
        path, headers
            Of the request.
        quiet_s
            After so long without a byte the connection counts as lost.
        """
        import httpx

        timeout = httpx.Timeout(quiet_s, connect=5.0)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            self._has_answered = True
            if not response.is_success:
                response.read()
                raise problem_of(response)
            yield response

    def patience(self) -> Patience:
        """Return the waiting of one request; it lasts longer from the moment on that the service answers."""
        return Patience(
            self.url, lambda: self._patience_s if self._has_answered else min(self._patience_s, FIRST_ANSWER_S)
        )


class Patience:
    """Waits between attempts, each longer than the last, until patience ends.

    Parameters
    ----------
    url
        For messages.
    lasts_s
        Says for how long, from the first failure on.
    """

    def __init__(self, url: str, lasts_s: Callable[[], float]) -> None:
        self._url, self._lasts_s = url, lasts_s
        self._began_s: float | None = None
        self._attempts = 0

    def wait(self, error: Exception) -> None:
        """Wait before the next attempt.

        Raises
        ------
        ServiceAway
            If patience has ended.
        """
        if not self._sleep(None):
            raise ServiceAway(
                f"{self._url}: no service after {self._attempts} attempts ({said(error)}); is dse serve running there?"
            ) from error

    def allows(self, response: httpx.Response) -> bool:
        """Wait as long as a busy service asks for; False if that is longer than patience lasts."""
        try:
            asked = float(response.headers.get("Retry-After", ""))
        except ValueError:
            asked = None
        return self._sleep(asked)

    def _sleep(self, asked_s: float | None) -> bool:
        now = time.monotonic()
        if self._began_s is None:
            self._began_s = now
        self._attempts += 1
        # Clients that lost the same service at the same time do not come back at the same time.
        pause = min(0.1 * 2**self._attempts, 10.0) * random.uniform(0.5, 1.0)
        if asked_s is not None:
            pause = asked_s + pause / 4
        if now + pause > self._began_s + self._lasts_s():
            return False
        time.sleep(pause)
        return True


def problem_of(response: httpx.Response) -> ProblemError:
    """Return the error that an answer which was read to its end says."""
    try:
        body = response.json()
    except ValueError:
        body = None
    return ProblemError.of(response.status_code, response.reason_phrase, body)


def said(error: Exception) -> str:
    """Return what went wrong with a connection."""
    return str(error) or type(error).__name__


def _checked(url: str) -> str:
    """Return an address as httpx takes it."""
    whole = url if "://" in url else f"http://{url}"
    parts = urlsplit(whole)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SpecError(f"url: given {url!r}; allowed: http://HOST:PORT or https://HOST:PORT")
    if parts.username or parts.password:
        raise SpecError("url: takes no user or password; give token, or set DSE_TOKEN")
    return whole.rstrip("/")

"""What every request passes on its way to a route, from the outside in."""

from __future__ import annotations

from fastapi import FastAPI

from dse.service.api.logs import RequestLog
from dse.service.api.metrics import Metrics
from dse.service.api.security.body_limit import BodyLimit
from dse.service.api.security.headers import SecurityHeaders
from dse.service.api.security.hosts import OwnHosts
from dse.service.api.security.rates import RateLimits
from dse.service.api.security.tokens import GoodTokens, TokenCallers
from dse.service.api.uploads import Uploads
from dse.service.settings import Settings


def add_middlewares(app: FastAPI, settings: Settings, *, require_token: bool) -> None:
    """Let an app log, count, and refuse what it should not serve.

    Parameters
    ----------
    app
        Whose ``state.service`` is there when the first request comes. Its ``state`` gets ``metrics``, ``good_tokens``,
        ``require_token`` and ``uploads``.
    settings
        Limits and names of the server.
    require_token
        Whether requests must have a token.
    """
    good = GoodTokens(lambda: app.state.service.tokens)
    metrics = Metrics(lambda: app.state.service)
    app.state.metrics, app.state.good_tokens, app.state.require_token = metrics, good, require_token
    app.state.uploads = Uploads(settings.data / "uploads", settings.limits.upload_bytes)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, most_bytes=settings.limits.body_bytes)
    app.add_middleware(RateLimits, limits=settings.limits)
    app.add_middleware(TokenCallers, good=good if require_token else None)
    app.add_middleware(OwnHosts, hosts=(settings.host, *settings.hosts))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, answered=metrics.answered)

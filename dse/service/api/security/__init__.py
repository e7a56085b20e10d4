"""What stands between the network and the routes; each part is a pure ASGI middleware, and cheap."""

from dse.service.api.security.callers import CALLER, EVERYBODY, NOBODY, SCOPES, Caller, Needs, TokenScope, needs

__all__ = ["CALLER", "EVERYBODY", "NOBODY", "SCOPES", "Caller", "Needs", "TokenScope", "needs"]

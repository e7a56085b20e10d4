"""The HTTP side: routes, problems, tokens, limits, events."""

"""A slow, obviously right reference simulator, written from ``docs/semantics.md`` alone."""

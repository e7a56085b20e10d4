"""Small spaces with conditions, for tests that compare fast ways with enumeration."""

from __future__ import annotations

from hypothesis import strategies as st

from search_spaces import Dimension, Space


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces with conditions on earlier dimensions."""
    dimensions: list[Dimension] = []
    for index in range(draw(st.integers(1, 6))):
        values = tuple(range(draw(st.integers(1, 3))))
        when = None
        if dimensions and draw(st.booleans()):
            earlier = draw(st.sampled_from(dimensions))
            when = (earlier.name, tuple(draw(st.sets(st.sampled_from(earlier.values), min_size=1))))
        dimensions.append(Dimension(f"d{index}", values, "", when))
    return Space(tuple(dimensions))

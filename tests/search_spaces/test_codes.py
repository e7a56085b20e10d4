"""Rows of codes against the enumeration of designs one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Design, Dimension, Space
from search_spaces.codes import MAX_VALUES
from simulator import SpecError
from tests.search_spaces.conditional import spaces

# One choice leads to many designs, the other to one.
LOPSIDED = Space(
    (
        Dimension("split", (False, True), ""),
        Dimension("link", tuple(range(9)), "", ("split", (True,))),
        Dimension("tp", (1, 2), ""),
    )
)


def wide(dimensions: int) -> Space:
    """Return a space of 10 values a dimension."""
    return Space(tuple(Dimension(f"d{index}", tuple(range(10)), "") for index in range(dimensions)))


@settings(max_examples=200, deadline=None)
@given(spaces())
def test_all_codes_are_the_enumeration_in_its_order(space: Space) -> None:
    designs, codes = list(space), space.codes()
    assert codes.dtype == np.int16
    assert codes.shape == (len(designs), len(space.dimensions)) == (space.size, len(space.dimensions))
    assert [space.design_of(row) for row in codes] == designs
    for row, design in zip(codes, designs, strict=True):
        assert np.array_equal(space.row_of(design), row)


@settings(max_examples=200, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_keys_are_places_in_the_enumeration(space: Space, random: object) -> None:
    place = {design: rank for rank, design in enumerate(space)}
    codes = np.array([space.row_of(design) for design in place])
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(codes))  # type: ignore[attr-defined]
    assert space.keys(codes[order]).tolist() == order.tolist()
    assert np.array_equal(space.rows(order), codes[order])


@settings(max_examples=200, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1), st.sampled_from(["designs", "choices"]))
def test_samples_are_designs(space: Space, seed: int, by: str) -> None:
    everything = set(space)
    codes = space.sample(50, np.random.default_rng(seed), by=by)  # type: ignore[arg-type]
    assert {space.design_of(row) for row in codes} <= everything
    again = space.sample(50, np.random.default_rng(seed), by=by)  # type: ignore[arg-type]
    assert np.array_equal(codes, again)


def test_samples_weigh_designs_or_choices() -> None:
    """Of 20 designs 2 are not split: a tenth of designs, half of the choices."""
    rng, count = np.random.default_rng(1), 100_000
    keys = LOPSIDED.keys(LOPSIDED.sample(count, rng, by="designs"))
    seen = np.bincount(keys, minlength=20)
    # chi-squared with 19 degrees of freedom: above 43.8 in one of a thousand draws
    assert ((seen - count / 20) ** 2 / (count / 20)).sum() < 43.8
    split = LOPSIDED.sample(count, rng, by="choices")[:, 0]
    assert abs((split == 1).mean() - 0.5) < 4 * np.sqrt(0.25 / count)


@settings(max_examples=200, deadline=None)
@given(spaces(), st.data())
def test_mending_follows_the_conditions(space: Space, data: st.DataObject) -> None:
    """Against the rule written out for one row: walk the dimensions, keep what is active and valid, fill the rest."""
    dims = len(space.dimensions)
    numbers = st.lists(st.integers(-2, 4), min_size=dims, max_size=dims)
    codes = np.array(data.draw(st.lists(numbers, min_size=1, max_size=4)), np.int16)
    fill = np.array([data.draw(numbers) for _ in codes], np.int16)
    before = codes.copy()
    mended = space.mend(codes, fill)
    assert np.array_equal(codes, before)
    for row, given_row, spare in zip(mended, codes.tolist(), fill.tolist(), strict=True):
        chosen: dict[str, int] = {}
        for place, dimension in enumerate(space.dimensions):
            if dimension.is_active(chosen):
                valid = range(len(dimension.values))
                ways = [code for code in (given_row[place], spare[place], 0) if code in valid]
                chosen[dimension.name] = ways[0]
        assert space.design_of(row) == Design(chosen)
    drawn = space.mend(codes, np.random.default_rng(0))
    assert {space.design_of(row) for row in drawn} <= set(space)
    assert np.array_equal(space.mend(mended, fill[0]), mended), "designs stay what they are"


def test_a_space_too_large_to_list_or_to_rank() -> None:
    with pytest.raises(SpecError, match="1,000,000 designs are too many to list, at most 999,999"):
        wide(6).codes(limit=999_999)
    with pytest.raises(SpecError, match="fewer than 2\\*\\*62 designs, given 1e\\+19"):
        wide(19).rows(np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="from 0 to 99, given 0 to 100"):
        wide(2).rows(np.array([0, 100]))
    many = Dimension("clients", tuple(range(MAX_VALUES + 1)), "")
    with pytest.raises(SpecError, match="clients: at most 32767 values can be searched, given 32768"):
        Space((many,)).sample(1, np.random.default_rng(0))


def test_ranks_are_exact_up_to_their_limit_and_hashes_beyond() -> None:
    """2**61 designs have ranks, even the last one; in larger spaces keys tell different designs apart all the same."""
    binary = Space(tuple(Dimension(f"d{index}", (0, 1), "") for index in range(61)))
    assert binary.ranked
    last = np.ones((1, 61), np.int16)
    assert binary.keys(last).tolist() == [2**61 - 1]
    assert np.array_equal(binary.rows(np.array([2**61 - 1])), last)
    large = wide(30)
    assert not large.ranked
    codes = large.sample(100_000, np.random.default_rng(2))
    neighbours = codes.copy()
    neighbours[:, 17] = (neighbours[:, 17] + 1) % 10
    keys = np.concatenate([large.keys(codes), large.keys(neighbours)])
    assert len(np.unique(keys)) == len(np.unique(np.concatenate([codes, neighbours]), axis=0)) == 200_000
    assert np.array_equal(large.keys(codes[::2]), keys[: len(codes) : 2])


def test_many_independent_conditions_are_counted_at_once() -> None:
    """40 switches, each with an option: 3**40 designs, far too many ways for a walk over the switches."""
    switches = tuple(
        dimension
        for index in range(40)
        for dimension in (
            Dimension(f"s{index}", (False, True), ""),
            Dimension(f"o{index}", (1, 2), "", (f"s{index}", (True,))),
        )
    )
    assert Space(switches).size == 3**40


def test_two_million_designs_a_second() -> None:
    """31 dimensions, 16 of them active; a slow machine under load is allowed a quarter of the speed."""
    halves = (
        Dimension(f"{half}{index}", (0, 1, 2)[: 2 + index % 2], "", ("layout", (half,)))
        for half in (0, 1)
        for index in range(15)
    )
    space = Space((Dimension("layout", (0, 1), ""), *halves))
    start = time.perf_counter()
    count = len(space.codes())
    assert count == 2 * 2**8 * 3**7
    assert count / (time.perf_counter() - start) > 500_000

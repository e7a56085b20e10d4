"""Fronts, hypervolume and knee against naive definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.objectives import direction_of
from dse.pareto import hypervolume, knee, losses, non_dominated, reference_point, relative_hypervolume
from simulator import SpecError

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25)


@given(points)
def test_non_dominated_is_the_definition(raw: list[tuple[int, int]]) -> None:
    array = np.array(raw, dtype=float)
    kept = {tuple(p) for p in array[non_dominated(array)]}
    expected = {p for p in raw if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in raw)}
    assert kept == expected
    assert len(non_dominated(array)) == len(expected)


@given(points)
def test_hypervolume_counts_unit_squares(raw: list[tuple[int, int]]) -> None:
    covered = sum(any(p[0] <= x and p[1] <= y for p in raw) for x in range(10) for y in range(10))
    assert hypervolume(np.array(raw, dtype=float), np.array([10.0, 10.0])) == pytest.approx(covered)


def test_relative_hypervolume_of_the_ideal_is_one() -> None:
    cloud = np.array([[1.0, 5.0], [3.0, 2.0], [1.0, 2.0]])
    assert relative_hypervolume(cloud, cloud.min(axis=0), reference_point(cloud)) == pytest.approx(1.0)


def test_knee_is_the_bend() -> None:
    front = np.array([[0.0, 100.0], [1.0, 10.0], [5.0, 8.0], [50.0, 0.0]])
    assert knee(front) == 1


def test_maximised_objectives_turn_around() -> None:
    turned = losses(np.array([[1.0, 2.0]]), ["usd_per_hour", "goodput_rps"])
    assert turned.tolist() == [[1.0, -2.0]]


@pytest.mark.parametrize("name", ["ttft_p0_s", "ttft_p101_s", "speed", "itl_s"])
def test_unknown_objectives_are_named(name: str) -> None:
    with pytest.raises(SpecError, match=name):
        direction_of(name)

"""Spaces: conditions, size, enumeration, validation, and the way to a deployment and back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings

from search_spaces import Design, Dimension, ServingSpace, Space, to_deployment, to_design
from simulator import SpecError
from tests.search_spaces.conditional import spaces

SERVING = ServingSpace.parse(
    {
        "accelerators": ["h100-sxm", "l40s"],
        "clients": [1, 2, 4],
        "tp": [1, 2],
        "weights": ["bf16", "fp8"],
        "token_budgets_tokens": [512, 2048],
        "max_batches_requests": [32, 256],
    }
)


@settings(max_examples=200, deadline=None)
@given(spaces())
def test_enumeration_against_brute_force(space: Space) -> None:
    """Every combination of all values, inactive ones dropped, each once: that is the space."""
    names = [d.name for d in space.dimensions]
    everything = itertools.product(*(d.values for d in space.dimensions))
    expected = {space.design(dict(zip(names, values, strict=True))) for values in everything}
    listed = list(space)
    assert set(listed) == expected
    assert len(listed) == len(expected) == space.size
    for design in listed:
        assert space.validate(design) == design


def test_size_of_the_serving_space_is_the_product() -> None:
    colocated = 2 * 3 * 2 * 2 * 2 * 2  # accelerator, clients, tp, policy, budget, batch
    apart = (2 * 3 * 2) ** 2 * 2 * 2  # two pools, budget, batch
    assert SERVING.space.size == (colocated + apart) * 2 * 3  # weights, router


def test_designs_become_deployments_and_back() -> None:
    for design in itertools.islice(SERVING.space, 0, None, 17):
        deployment = to_deployment(design, "llama-3.1-8b")
        assert to_design(deployment, SERVING.space) == design
        assert {pool.role for pool in deployment.pools} in ({"both"}, {"prefill", "decode"})


def test_pools_choose_their_hardware_independently() -> None:
    mixes = {
        (design["prefill.accelerator"], design["decode.accelerator"])
        for design in SERVING.space
        if design["layout"] == "disaggregated"
    }
    assert len(mixes) == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layout": "apart"}, ["layout", "'apart'", "colocated, disaggregated"]),
        ({"layout": "colocated"}, ["main.accelerator", "missing", "h100-sxm, l40s"]),
    ],
)
def test_bad_designs_are_named(values: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        SERVING.space.design(values)
    assert all(word in str(error.value) for word in words)


def test_inactive_choices_are_refused_by_validation() -> None:
    design = next(iter(SERVING.space))
    with pytest.raises(SpecError, match=r"prefill\.tp"):
        SERVING.space.validate({**design, "prefill.tp": 1})


def test_mistakes_in_a_space_are_named() -> None:
    with pytest.raises(SpecError, match="'a' is given twice"):
        Space((Dimension("a", (1,), ""),)) | Space((Dimension("a", (2,), ""),))
    with pytest.raises(SpecError, match="'b' depends on 'a'"):
        _ = Space((Dimension("b", (1,), "", ("a", (1,))),)).size
    with pytest.raises(SpecError, match="at least one value"):
        Dimension("a", (), "")
    with pytest.raises(SpecError, match="values must differ"):
        Dimension("a", (1, 1), "")


def test_design_is_a_hashable_mapping() -> None:
    assert Design({"a": 1, "b": "x"}) == {"b": "x", "a": 1}
    assert len({Design({"a": 1, "b": 2}), Design({"b": 2, "a": 1})}) == 1


MORE = {"pp": [1, 2], "orders": ["fcfs", "shortest_first"], "prefix_cache": [False, True]}


def test_what_is_not_asked_for_is_no_dimension() -> None:
    """A study that leaves queue order, pipeline parallelism and prefix cache alone searches the same space as ever."""
    names = [dimension.name for dimension in SERVING.space.dimensions]
    assert not [name for name in names if name.split(".")[-1] in ("pp", "order", "prefix_cache")]
    given = {"pp": [1], "orders": ["fcfs"], "prefix_cache": [False]}
    text = SERVING.model_dump(mode="json", exclude_none=True)
    assert ServingSpace.parse({**text, **given}).space == SERVING.space
    for pool in to_deployment(next(iter(SERVING.space)), "llama-3.1-8b").pools:
        assert (pool.pp, pool.batching.order, pool.prefix_cache, pool.stage) == (1, "fcfs", None, "llm")


def test_more_dimensions_become_deployments_and_back() -> None:
    space = {"accelerators": ["h100-sxm"], "clients": [1], "tp": [2], "policies": ["static", "chunked"], **MORE}
    small = {"token_budgets_tokens": [512], "max_batches_requests": [32], "routers": ["round_robin"]}
    found = ServingSpace.parse({**space, **small}).space
    # pp and order; static batching reuses no KV, and of two pools only the one that reads prompts
    assert found.size == (1 + 2) * 2 * 2 + 2 * 2 * 2 * 2
    for design in found:
        deployment = to_deployment(design, "llama-3.1-8b", stage="large")
        assert to_design(deployment, found) == design
        for pool in deployment.pools:
            assert pool.stage == "large"
            assert pool.pp == design[f"{pool.name}.pp"]
            assert pool.batching.order == design["order"]
            assert (pool.prefix_cache is not None) == design.get(f"{pool.name}.prefix_cache", False)


def test_prefix_cache_needs_prompts_that_are_not_read_in_static_batches() -> None:
    text = {"accelerators": ["h100-sxm"], "clients": [1], "layouts": ["colocated"], "policies": ["static"]}
    names = [d.name for d in ServingSpace.parse({**text, **MORE}).space.dimensions]
    assert "main.prefix_cache" not in names
    assert names[-2:] == ["main.pp", "order"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"orders": ["lifo"]}, ["orders", "'lifo'"]),
        ({"pp": [0]}, ["pp", "0"]),
        ({"prefix_cache": []}, ["prefix_cache"]),
    ],
)
def test_mistakes_in_more_dimensions_are_named(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        ServingSpace.parse({"accelerators": ["h100-sxm"], "clients": [1], **given})
    assert all(word in str(error.value) for word in words)

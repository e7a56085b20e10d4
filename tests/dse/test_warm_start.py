"""Warm starts: fronts of earlier runs and deployments that exist are proposed first, whoever proposes the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dse.evaluation import deployment_of
from dse.output import front_designs, save
from dse.result import StudyResult
from dse.spec import StudySpec
from dse.study import run_study
from dse.warm_start import starting_designs
from search_spaces import Design
from simulator import SpecError

from .conftest import SMALL, small

OTHER_PROMISES = [{"metric": "ttft", "percentile": 50, "limit_s": 1.0}]


@pytest.fixture(scope="module")
def earlier() -> StudyResult:
    return run_study(small(budget={"trials": 40}, sampler="nsga2"), jobs=1)


@pytest.fixture(scope="module")
def folder(earlier: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("earlier")
    save(earlier, path)
    return path


def unlikely(spec: StudySpec) -> Design:
    """A design that is far from any front: the last choice of everything, so most accelerators."""
    dimensions = spec.space.space.dimensions
    return spec.space.space.design({dimension.name: dimension.values[-1] for dimension in dimensions})


def written(design: Design, spec: StudySpec, path: Path, **changes: Any) -> Path:
    data = deployment_of(design, spec).model_dump(mode="json", exclude_unset=True)
    for pool in data["pools"]:
        pool.update(changes)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_the_front_of_a_run(earlier: StudyResult, folder: Path) -> None:
    spec = small(start=[str(folder)], slos=OTHER_PROMISES)
    found = starting_designs(spec)
    assert set(found) == {evaluation.design for evaluation in earlier.front}
    assert len(found) == len(set(found)) == len(earlier.front)
    assert [dict(found[0])] == front_designs(folder)[:1]


def test_of_a_front_only_what_the_space_holds(earlier: StudyResult, folder: Path) -> None:
    space = {**SMALL["space"], "layouts": ["colocated"]}
    spec = small(start=[str(folder)], space=space)
    inside = {e.design for e in earlier.front if e.design["layout"] == "colocated"}
    if inside:
        assert set(starting_designs(spec)) == inside
    other = small(start=[str(folder)], space={**SMALL["space"], "accelerators": ["b200"]})
    with pytest.raises(SpecError, match="no design of its front is in this study's space"):
        starting_designs(other)


@pytest.mark.parametrize("sampler", ["auto", "nsga2", "random", "tpe"])
def test_starting_designs_are_proposed_first(sampler: str, folder: Path, tmp_path: Path) -> None:
    plain = small(budget={"trials": 30}, sampler=sampler)
    own = unlikely(plain)
    path = written(own, plain, tmp_path / "own.yaml")
    spec = small(budget={"trials": 30}, sampler=sampler, start=[str(path), str(folder)], limits={})
    wanted = starting_designs(spec)
    assert wanted[0] == own
    result = run_study(spec, jobs=1)
    assert [evaluation.design for evaluation in result.evaluations[: len(wanted)]] == list(wanted)
    assert len(result.simulated) == 30


def test_a_start_that_cannot_be_simulated_is_told_and_the_study_goes_on(tmp_path: Path) -> None:
    plain = small()
    path = written(unlikely(plain), plain, tmp_path / "own.yaml")
    # Within the study's limit of 8 accelerators there is no room for it.
    result = run_study(small(start=[str(path)], budget={"trials": 20}, sampler="nsga2"), jobs=1)
    first = result.evaluations[0]
    assert first.design == unlikely(plain)
    assert "accelerators" in first.reason
    assert len(result.simulated) == 20


def test_a_study_that_goes_on_does_not_start_again(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    spec = small(start=[str(folder)], budget={"trials": 25})
    one = run_study(spec, jobs=1, journal=journal)
    more = small(start=[str(folder)], budget={"trials": 35})
    other = run_study(more, jobs=1, journal=journal)
    designs = [evaluation.design for evaluation in other.evaluations]
    assert len(set(designs)) == len(designs)
    assert designs[: len(one.evaluations)] == [evaluation.design for evaluation in one.evaluations]
    assert len(other.simulated) == 35


def test_a_start_is_the_same_whatever_the_processes(folder: Path) -> None:
    spec = small(start=[str(folder)], budget={"trials": 25}, sampler="nsga2")
    one, other = run_study(spec, jobs=1), run_study(spec, jobs=2)
    assert [e.design for e in one.evaluations] == [e.design for e in other.evaluations]


def test_another_model_is_refused(tmp_path: Path) -> None:
    spec = small()
    path = written(unlikely(spec), spec, tmp_path / "own.yaml", model="llama-3.1-70b")
    with pytest.raises(SpecError, match=r"start: .*own\.yaml: serves .*llama-3\.1-70b.*, the study .*llama-3\.1-8b"):
        starting_designs(small(start=[str(path)]))


def test_a_deployment_outside_the_space_is_refused(tmp_path: Path) -> None:
    spec = small()
    path = written(unlikely(spec), spec, tmp_path / "own.yaml", tp=8)
    with pytest.raises(SpecError, match=r"start: .*own\.yaml: .*tp.*8"):
        starting_designs(small(start=[str(path)]))
    path = written(unlikely(spec), spec, tmp_path / "own.yaml", step_noise_cv=0.1)
    with pytest.raises(SpecError, match=r"start: .*own\.yaml: .*step_noise_cv"):
        starting_designs(small(start=[str(path)]))


def test_what_is_no_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no finished run"):
        starting_designs(small(start=[str(tmp_path)]))
    with pytest.raises(SpecError, match=r"missing\.yaml"):
        starting_designs(small(start=[str(tmp_path / "missing.yaml")]))
    (tmp_path / "broken.yaml").write_text("pools: [1", encoding="utf-8")
    with pytest.raises(SpecError, match=r"broken\.yaml"):
        starting_designs(small(start=[str(tmp_path / "broken.yaml")]))


def test_the_same_start_twice_counts_once(folder: Path) -> None:
    once, twice = (starting_designs(small(start=[str(folder)] * times)) for times in (1, 2))
    assert once == twice


def test_exact_placement_is_proposed_first() -> None:
    spec = small(start=["planned"], budget={"trials": 20})
    chosen = starting_designs(spec)
    assert chosen
    assert len(set(chosen)) == len(chosen)
    result = run_study(spec, jobs=1)
    assert [each.design for each in result.evaluations[: len(chosen)]] == list(chosen)
    # Exact placement looks at capacities, so what it puts somewhere can at least keep up there.
    assert all(each.simulated for each in result.evaluations[: len(chosen)])

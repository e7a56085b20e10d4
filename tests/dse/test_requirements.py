"""Requirements: bounds counted by hand, chips that just keep the promises in the simulator, what is told of them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dse.capacity.trial import Load, attempt
from dse.cli.main import main
from dse.library import family_names
from dse.requirements import Chip, Demand, Judge, Requirements, UseCase, bounds_of, requirements_of
from dse.requirements.chip import RESOURCES, Resource
from dse.requirements.solver import TOLERANCE, least
from dse.requirements.study import cases_of
from simulator import SpecError, catalog, simulate

ALONE: dict[str, Any] = {
    "model": "llama-3.1-70b",
    "prompt_tokens": 3000,
    "output_tokens": 202,
    "ttft_s": 0.5,
    "tpot_s": 0.03,
    "tp": 4,
    "weights": "fp8",
    "kv": "fp8",
    "batch": 16,
}
LOADED: dict[str, Any] = {**ALONE, "batch": 64, "rate_rps": 2.0, "requests": 400}


def use_case(described: dict[str, Any], **changes: Any) -> UseCase:
    return UseCase.parse({**described, **changes})


def required(described: dict[str, Any], accelerators: tuple[str, ...] = (), **changes: Any) -> Requirements:
    return requirements_of(use_case(described, **changes), accelerators)


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


class TestBounds:
    # Llama 3.1 70B: 80 layers of width 8,192, 64 query and 8 KV heads of 128, feed-forward of 28,672, 128,256 tokens.
    layer = 8192 * (8192 + 2 * 8 * 128) + 8192 * 8192 + 3 * 8192 * 28672
    body = 80 * layer
    table = 128256 * 8192
    pair = 2 * 64 * 256

    def bounds(self, **changes: Any) -> dict[Resource, float]:
        case = use_case(ALONE, **changes)
        return {resource: bound.value for resource, bound in bounds_of(case, Demand.of(case)).items()}

    def test_requests_alone(self) -> None:
        found = self.bounds()
        prompt = 2 * self.body * 3000 + 2 * self.table + 80 * self.pair * 3000 * 3001 / 2
        # 16 decodes, in the middle of their 202 tokens: 3,000 + 100 stored, and the token's own.
        step = 16 * (2 * (self.body + self.table) + 80 * self.pair * 3101)
        kv = 80 * 2 * 8 * 128
        assert found["arithmetic"] == pytest.approx(max(prompt / 0.5, step / 0.03) / 4 / 1e12)
        # The output head stays at 16 bits; an embedding is looked up.
        assert found["bandwidth"] == pytest.approx((self.body + 2 * self.table + 16 * 3100 * kv) / 0.03 / 4 / 1e9)
        norms = (2 * 80 + 1) * 8192
        assert found["memory"] == pytest.approx((self.body + norms + 4 * self.table + 16 * 3202 * kv) / 4 / 1e9)
        # Two all-reduces a layer; each sends three quarters of its numbers of 16 bits.
        sent = 160 * 0.75 * 8192 * 2
        assert found["links"] == pytest.approx(max(3000 * sent / 0.5, 16 * sent / 0.03) / 1e9)

    def test_a_rate(self) -> None:
        found = self.bounds(batch=None, rate_rps=60, requests=100, accelerators=8)
        case = use_case(ALONE, batch=None, rate_rps=60, requests=100, accelerators=8)
        workload = case.load
        assert workload is not None
        rate = Load.of(workload).requests.rate_rps
        prompt = 2 * self.body * 3000 + 2 * self.table + 80 * self.pair * 3000 * 3001 / 2
        steps = sum(2 * (self.body + self.table) + 80 * self.pair * (seen + 1) for seen in range(3000, 3201))
        assert found["arithmetic"] == pytest.approx(rate * (prompt + steps) / 8 / 1e12)
        kv = sum(80 * 2 * 8 * 128 * seen for seen in range(3000, 3201))
        assert found["bandwidth"] == pytest.approx(rate * kv / 8 / 1e9)
        # Two clients share the requests; the accelerators of a client do not.
        assert found["links"] == pytest.approx(rate / 2 * 3201 * 160 * 0.75 * 8192 * 2 / 1e9)

    def test_only_visited_experts_are_read(self) -> None:
        one, all_of_them = (
            self.bounds(model="mixtral-8x7b", tp=1, batch=batch, weights="bf16", ttft_s=1e3)["bandwidth"]
            for batch in (1, 4000)
        )
        model = catalog.model("mixtral-8x7b")
        expert = 3 * 4096 * 14336
        kv = 32 * 2 * 8 * 128 * 3100
        rest = model.multiplied_parameters_per_token - 32 * 2 * expert
        assert one == pytest.approx((2 * (rest + 32 * 2 * expert) + kv) / 0.03 / 1e9)
        assert all_of_them == pytest.approx((2 * (rest + 32 * 8 * expert) + 4000 * kv) / 0.03 / 1e9)

    def test_pipeline_stages_share_layers_and_one_accelerator_needs_no_links(self) -> None:
        one, two = self.bounds(), self.bounds(pp=2)
        assert two == {resource: pytest.approx(value / 2) for resource, value in one.items()}
        assert "links" not in self.bounds(tp=1)

    def test_what_sets_them_is_said(self) -> None:
        case = use_case(ALONE)
        found = bounds_of(case, Demand.of(case))
        assert {resource: bound.promise for resource, bound in found.items()} == {
            "arithmetic": "TTFT",
            "bandwidth": "TPOT",
            "memory": "size",
            "links": "TTFT",
        }


class TestDemand:
    def test_the_longest_requests_may_be_late(self) -> None:
        workload = {
            "requests": 1000,
            "arrivals": {"process": "poisson", "rate_rps": 1},
            "lengths": {
                "prompt": {"distribution": "uniform", "low_tokens": 1, "high_tokens": 1000},
                "output": {"distribution": "constant", "tokens": 10},
            },
        }
        lengths = {"prompt_tokens": None, "output_tokens": None, "batch": None}
        case = UseCase.parse({**ALONE, **lengths, "workload": workload, "ttft_percentile": 50})
        found = Demand.of(case)
        assert 450 < found.prompt_tokens < 550
        assert 880 < found.context_tokens < 920
        assert 990 < found.longest_tokens <= 1010
        alone = Demand.of(case.model_copy(update={"alone": True, "batch": 7}))
        assert (alone.prompt_tokens, alone.batch, alone.load) == (found.prompt_tokens, 7, None)
        assert found.load is not None

    @pytest.mark.parametrize("rows", ["0,3000,200\n" * 200, "0,3000,200\n"], ids=["all at once", "one request"])
    def test_requests_alone_need_no_rate(self, rows: str, tmp_path: Path) -> None:
        trace = tmp_path / "batch.csv"
        trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}", encoding="utf-8")
        lengths = {"prompt_tokens": None, "output_tokens": None, "batch": 4}
        case = UseCase.parse({**ALONE, **lengths, "workload": {"trace": {"path": str(trace)}}, "alone": True})
        found = Demand.of(case)
        assert (found.prompt_tokens, found.longest_tokens, found.batch, found.load) == (3000, 3200, 4, None)
        with pytest.raises(SpecError, match=r"at once|at least 100"):
            Demand.of(case.model_copy(update={"alone": False}))


def test_least_is_found_from_both_sides() -> None:
    found = least(lambda value: value >= 37.0, 1.0, 1000.0)
    assert found is not None
    assert 37.0 <= found <= 37.0 * (1 + TOLERANCE)
    assert least(lambda value: value >= 0.5, 1.0, 1000.0) == 1.0
    assert least(lambda _: False, 1.0, 1000.0) is None


@pytest.mark.parametrize("resource", RESOURCES)
def test_more_of_a_resource_is_never_slower(resource: Resource) -> None:
    judge = Judge(case := use_case(ALONE), Demand.of(use_case(ALONE)))
    base = Chip.of("h100-sxm", case)
    found = [
        judge.verdict(base.changed({resource: factor * base.of_resource(resource)}).name(case))
        for factor in (0.5, 0.7, 1.0, 1.1, 1.7, 3.0, 10.0, 1000.0)
    ]
    for less, more in pairwise(found):
        assert more.ttft_s <= less.ttft_s * (1 + 1e-12)
        assert more.tpot_s <= less.tpot_s * (1 + 1e-12)
    if resource != "memory":
        assert found[-1].ttft_s + found[-1].tpot_s < found[0].ttft_s + found[0].tpot_s


def test_a_chip_with_the_figures_of_a_catalogued_one_is_that_one() -> None:
    case = use_case(LOADED)
    judge = Judge(case, Demand.of(case))
    same, own = judge.verdict(Chip.of("h100-sxm", case).name(case)), judge.verdict("h100-sxm")
    assert same.ttft_s == pytest.approx(own.ttft_s, rel=1e-6)
    assert same.tpot_s == pytest.approx(own.tpot_s, rel=1e-6)
    assert same.keeps == own.keeps


@pytest.mark.parametrize("described", [ALONE, LOADED], ids=["alone", "loaded"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "mixtral-8x7b", "weights": "bf16"},
        {"model": "deepseek-v3", "tp": 8, "ttft_s": 1.0},
        {"model": "gemma-2-27b", "like": "b200", "tp": 2},
        {"model": "nemotron-h-8b", "tp": 1, "like": "a100-80gb", "weights": "bf16", "kv": "bf16"},
        {"pp": 2, "tp": 2},
    ],
    ids=["dense", "experts", "latent", "windows", "recurrent", "pipeline"],
)
def test_bounds_are_below_the_least_and_the_least_below_the_chips(
    described: dict[str, Any], changes: dict[str, Any]
) -> None:
    found = requirements_of(use_case(described, **changes), (), balanced_only=True)
    assert found.reachable
    assert set(found.alone) == set(found.bounds)
    chip = found.chip
    assert chip is not None
    for resource, bound in found.bounds.items():
        assert bound.value <= found.alone[resource]
        assert found.alone[resource] <= chip.of_resource(resource) * (1 + 2 * TOLERANCE)


@pytest.fixture(scope="module")
def loaded() -> Requirements:
    return required(LOADED)


class TestJustKept:
    """The chips that are found, simulated from their names alone."""

    def test_every_chip_keeps_the_promises(self, loaded: Requirements) -> None:
        case, workload = loaded.case, loaded.case.load
        assert workload is not None
        assert [each.label for each in loaded.chips] == [
            "balanced",
            "little arithmetic",
            "plenty of arithmetic",
            "little memory bandwidth",
            "plenty of memory bandwidth",
            "little links",
            "plenty of links",
        ]
        for each in loaded.chips:
            result = simulate(case.deployment(each.chip.name(case)), workload)
            assert result.rejected == 0
            assert result.percentile_s("ttft", 90) <= 0.5
            assert result.percentile_s("tpot", 90) <= 0.03

    @pytest.mark.parametrize("part", [("arithmetic", "bandwidth", "links"), ("memory",)], ids=["speeds", "memory"])
    def test_three_percent_less_does_not(self, loaded: Requirements, part: tuple[Resource, ...]) -> None:
        case, chip, workload = loaded.case, loaded.chip, loaded.case.load
        assert chip is not None
        assert workload is not None
        less = chip.changed({resource: 0.97 * chip.of_resource(resource) for resource in part})
        trial, _ = attempt(
            case.deployment(less.name(case)), Load.of(workload), Load.of(workload).requests.rate_rps, case.slos
        )
        assert not trial.holds

    def test_the_least_of_each_is_just_enough_where_the_rest_is_plenty(self, loaded: Requirements) -> None:
        case, judge = loaded.case, Judge(loaded.case, loaded.demand)
        plenty = Chip(*(1e6 for _ in RESOURCES))
        for resource, value in loaded.alone.items():
            assert judge.keeps(plenty.changed({resource: 1.01 * value}).name(case))
            assert not judge.keeps(plenty.changed({resource: 0.97 * value}).name(case))

    def test_alone_a_chip_is_held_against_the_steps_themselves(self) -> None:
        found = required(ALONE)
        for each in found.chips:
            assert max(each.verdict.ttft_s / 0.5, each.verdict.tpot_s / 0.03) == pytest.approx(1, abs=2 * TOLERANCE)

    def test_more_load_and_tighter_limits_need_more(self) -> None:
        base, busy, strict = (
            requirements_of(use_case(LOADED, **changes), (), balanced_only=True).chip
            for changes in ({}, {"rate_rps": 4.0}, {"ttft_s": 0.25, "tpot_s": 0.02})
        )
        assert base
        assert busy
        assert strict
        for resource in ("arithmetic", "bandwidth", "links"):
            assert busy.of_resource(resource) > base.of_resource(resource)
            assert strict.of_resource(resource) > base.of_resource(resource)


class TestCatalogue:
    @pytest.mark.parametrize("described", [ALONE, LOADED], ids=["alone", "loaded"])
    def test_what_suffices_has_enough_of_everything(self, described: dict[str, Any]) -> None:
        found = requirements_of(use_case(described, ttft_s=0.8, tpot_s=0.05))
        kept = [each for each in found.candidates if each.verdict.keeps]
        assert "h100-sxm" in [each.accelerator for each in kept]
        assert len(kept) < len(found.candidates)
        for each in kept:
            # Its own kernels may be better than those of the H100, but none beats a bound.
            for resource, bound in found.bounds.items():
                if resource != "arithmetic" or each.accelerator not in ("rtx-4090",):  # clocked above its datasheet
                    assert each.chip.of_resource(resource) >= bound.value
            if each.accelerator == "h100-sxm":
                assert min(each.ratios.values()) >= 1
                assert each.ratios[each.scarcest] == min(each.ratios.values())

    def test_those_that_do_come_first_and_say_what_they_break(self) -> None:
        found = requirements_of(use_case(ALONE), ("l4", "b200", "l40s"))
        assert found.candidates[0].accelerator == "b200"
        l4 = found.candidates[-1]
        assert (l4.verdict.keeps, l4.verdict.broken) == (False, "memory")
        assert "16 of 3,202 tokens are needed" in l4.verdict.why


class TestUnreachable:
    def test_overheads_that_no_chip_shortens(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        found = required(ALONE, tpot_s=0.002)
        assert not found.reachable
        assert found.chip is None
        assert found.unlimited.tpot_s > 0.002
        code = dse(
            monkeypatch,
            "requirements",
            "llama-3.1-70b",
            *["--prompt", "500", "--output", "50", "--ttft", "1", "--tpot", "0.002", "--tp", "8"],
        )
        printed = capsys.readouterr().out
        assert code == 3
        assert "no chip keeps TPOT within 2 ms with this engine and such kernels" in printed


class TestCommand:
    options = (
        "--prompt",
        "3000",
        "--output",
        "202",
        "--ttft",
        "0.5",
        "--tpot",
        "0.03",
        "--tp",
        "4",
        "--weights",
        "fp8",
    )

    def test_a_model(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        assert dse(monkeypatch, "requirements", "llama-3.1-70b", *self.options, "--kv", "fp8", "--batch", "16") == 0
        printed = capsys.readouterr().out
        assert "TTFT: operations of a prompt / TTFT" in printed
        assert "little memory bandwidth" in printed
        assert "h200-sxm" in printed

    def test_json_is_what_python_says(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        arguments = (*self.options, "--kv", "fp8", "--batch", "16", "--json")
        assert dse(monkeypatch, "requirements", "llama-3.1-70b", *arguments) == 0
        found, printed = required(ALONE, ("h100-sxm",)), json.loads(capsys.readouterr().out)
        assert found.chip
        assert printed["bounds"]["memory"]["value"] == pytest.approx(found.bounds["memory"].value)
        assert printed["least_alone"] == {resource: pytest.approx(value) for resource, value in found.alone.items()}
        assert printed["chips"][0]["tflops"] == pytest.approx(found.chip.arithmetic)
        own = next(each for each in printed["accelerators"] if each["accelerator"] == "h100-sxm")
        assert own["tpot_slack"] == pytest.approx(1 - found.candidates[0].verdict.tpot_s / 0.03)
        # The name of the chip is one that every other command takes.
        assert catalog.accelerator(printed["chips"][0]["accelerator"]).memory_gb == pytest.approx(
            found.chip.memory, rel=1e-6
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("llama-3.1-70b",), "--prompt, --output, --ttft, --tpot: missing"),
            (("chat", "--prompt", "1000"), "--prompt: a study says its own load and promises"),
            (("finite-rag",), "one LLM alone"),
            (("future-platform/rag/new-apart",), "given the layouts disaggregated"),
            (("llama-3.1-70b", *options, "--accelerators", "6"), "6 is no multiple of tp 4 x pp 1"),
            (("llama-3.1-70b", *options, "--like", "h1000"), "did you mean h100"),
            (("bge-large-en", *options), "choose a decoder"),
            (("llama-3.1-70b", *options, "--tp", "7"), "tp"),
            (("llama-3.1-70b", *options, "--alone"), "alone: given without a workload"),
            (("llama-3.1-70b", *options, "--json", "--markdown"), "contradict"),
        ],
    )
    def test_mistakes_are_told(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: tuple[str, ...], words: str
    ) -> None:
        assert dse(monkeypatch, "requirements", *arguments) == 2
        assert words in capsys.readouterr().err


class TestStudies:
    def test_the_shipped_study_has_a_use_case_for_each_scenario(self) -> None:
        assert "future-platform" in family_names()
        cases = cases_of("future-platform", {})
        assert [case.name for case in cases] == ["question-answering", "chat", "rag", "summarisation", "code"]
        rag = cases[2]
        assert (rag.ttft_s, rag.tpot_s, rag.tp, rag.total, rag.like) == (0.4, 0.01, 8, 32, "b200")
        (one,) = cases_of("future-platform/rag/today", {"tp": 4, "accelerators": 8})
        assert one.model_copy(update={"name": "rag", "tp": 8, "accelerators": 32}) == rag

    def test_several_use_cases_are_set_beside_each_other(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "two.yaml"
        path.write_text(
            """
            name: two
            model: llama-3.1-8b
            workload:
              requests: 100
              arrivals: {process: poisson, rate_rps: 4}
              lengths:
                prompt: {distribution: constant, tokens: 1000}
                output: {distribution: constant, tokens: 50}
            space: {accelerators: [l40s], clients: [1], tp: [1, 2]}
            objectives: [usd_per_hour]
            slos: [{metric: ttft, percentile: 90, limit_s: 1}, {metric: tpot, percentile: 95, limit_s: 0.05}]
            scenarios: {short: {}, long: {workload.lengths.prompt.tokens: 4000}}
            alternatives: {fp16: {}, eight: {space.weights: [fp8]}}
            """
        )
        assert dse(monkeypatch, "requirements", str(path), "--markdown") == 0
        printed = capsys.readouterr().out
        rows = [line for line in printed.splitlines() if line.startswith("| ")]
        # Alternatives that need other chips stay apart.
        assert sum("balanced chip" in row for row in rows) == 4
        assert any(row.startswith("| long/eight | no machine below |") for row in rows)
        assert any(row.startswith("| l40s |") for row in rows)

    def test_a_study_without_a_promise_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "lax.yaml"
        path.write_text(
            """
            name: lax
            model: llama-3.1-8b
            workload: {requests: 200, arrivals: {process: poisson, rate_rps: 4}, lengths: {statistics: azure-2023-code}}
            space: {accelerators: [l40s], clients: [1]}
            objectives: [usd_per_hour]
            slos: [{metric: ttft, percentile: 90, limit_s: 1}]
            """
        )
        with pytest.raises(SpecError, match="requirements need one of ttft and one of tpot, given ttft_p90_s"):
            cases_of(str(path), {})


def test_the_page_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "requirements.md").read_text(encoding="utf-8")
    (command, shown), *more = re.findall(r"<!-- runs -->\n```sh\n(.*?)```(?:\n\n```text\n(.*?)```)?", page, re.DOTALL)
    dse(monkeypatch, *shlex.split(command.replace("\\\n", ""))[1:])
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(line.split()) for line in shown.splitlines()] == printed
    for commands, _ in more:
        for line in commands.splitlines():
            assert dse(monkeypatch, *shlex.split(line)[1:]) == 0

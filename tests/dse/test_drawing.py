"""Drawings: well-formed, complete, nothing outside its place, whatever is drawn."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import dse.drawing.deployment
from dse import load_study, study_names
from dse.drawing import draw_deployment
from dse.drawing.deployment import WIDTH
from dse.drawing.flow import IN, OUT, Edge, edges_of
from dse.drawing.shapes import SMALL, fitted, lines_of, width
from dse.evaluation import deployment_of
from simulator import Deployment, SpecError, Workload
from simulator.spec.pipeline_plan import PipelinePlan

from .random_pairs import random_pairs

SVG = "{http://www.w3.org/2000/svg}"
NO_CLIENTS: dict[str, Any] = {"requests": 5, "arrivals": {"process": "poisson", "rate_rps": 2}}
LENGTHS = {"statistics": "azure-2023-conversation"}


def plan_of(*pipeline: Any) -> PipelinePlan:
    """Return the plan of a pipeline; of an LLM alone without one."""
    stages = {"pipeline": list(pipeline)} if pipeline else {}
    return Workload.parse({**NO_CLIENTS, "lengths": LENGTHS, **stages}).plan


def pool(**changes: Any) -> dict[str, Any]:
    return {"model": "llama-3.1-8b", "accelerator": "h100-sxm", **changes}


def drawn(data: dict[str, Any], plan: PipelinePlan) -> ET.Element:
    """Return a drawing as XML, checked."""
    svg = draw_deployment(Deployment.parse(data), plan)
    check(svg)
    return ET.fromstring(svg)


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def check(svg: str) -> None:
    """Check what holds for every drawing."""
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    x, y, w, h = map(float, root.attrib["viewBox"].split())
    assert (x, y, w) == (0, 0, WIDTH)
    assert root[0].tag == f"{SVG}title"
    assert root[0].text
    assert root[1].tag == f"{SVG}desc"
    documented = dse.drawing.deployment.__doc__ or ""
    for each in root.iter():
        # Nothing that a content security policy would stop, and nothing that two drawings in a page would share.
        assert not {"style", "id", "href"} & set(each.attrib)
        assert not any(name.startswith("on") for name in each.attrib)
        assert each.tag in {f"{SVG}{tag}" for tag in ("svg", "title", "desc", "g", "rect", "path", "text")}
        for name in each.get("class", "").split():
            assert f"``{name}``" in documented or re.fullmatch(r"k[0-7]|d-chip", name), name
        if each.tag == f"{SVG}rect":
            left, top, wide, high = (float(each.attrib[side]) for side in ("x", "y", "width", "height"))
            assert left >= 0
            assert top >= 0
            assert left + wide <= WIDTH
            assert top + high <= h
        if each.tag == f"{SVG}path":
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", each.attrib["d"])]
            assert min(numbers[::2]) >= 0
            assert max(numbers[::2]) <= WIDTH
            assert min(numbers[1::2]) >= 0
            assert max(numbers[1::2]) <= h
        if each.tag == f"{SVG}text":
            text = (each[0].tail if len(each) else each.text) or ""
            room = width(text, float(each.attrib["font-size"]), bold="font-weight" in each.attrib)
            share = {"start": 0, "middle": 0.5, "end": 1}[each.attrib["text-anchor"]]
            start = float(each.attrib["x"]) - share * room
            assert start >= 0
            assert start + room <= WIDTH, text


def test_a_pool_is_drawn_with_every_accelerator() -> None:
    root = drawn({"pools": [pool(clients=3, tp=4, pp=2)]}, plan_of())
    assert len(of_class(root, "d-pool")) == len(of_class(root, "d-stage")) == 1
    assert len(of_class(root, "d-client")) == 3
    assert len(of_class(root, "k0")) == len(of_class(root, "d-chip")) == 24
    assert len(of_class(root, "d-end")) == 2
    assert [each.tag for each in of_class(root, "d-flow") if "d-head" not in each.attrib["class"]] == [f"{SVG}path"] * 2
    words = "".join(root.itertext())
    assert "24 accelerators" in words
    assert "3 clients of 8 × h100-sxm (TP4, PP2)" in words


def test_accelerators_of_different_kinds_have_different_classes() -> None:
    mixed = pool(pp=3, stage_accelerators=["h100-sxm", "a100-80gb", "h100-sxm"])
    root = drawn({"pools": [mixed, pool(name="extra", accelerator="l40s", clients=2)]}, plan_of())
    assert [len(of_class(root, f"k{number}")) for number in range(4)] == [2, 1, 2, 0]


def test_a_huge_client_is_drawn_in_part_and_says_so() -> None:
    root = drawn({"pools": [pool(clients=3000, tp=8, pp=2, dp=16)]}, plan_of())
    assert 0 < len(of_class(root, "d-chip")) < 1000
    said = "".join(root.itertext())
    assert "more" in said
    assert "of 256 accelerators drawn" in said


def test_hand_over_and_tiers() -> None:
    data = {
        "pools": [pool(name="prefill", role="prefill", prefix_cache={}), pool(name="decode", role="decode", clients=2)],
        "link": {"gb_per_s": 50, "layer_wise": True},
        "tiers": [{"name": "host", "memory_gb": 512, "gb_per_s": 50, "clients": 1}],
    }
    root = drawn(data, plan_of())
    assert len(of_class(root, "d-handover")) == 2
    assert len(of_class(root, "d-tier")) == 1
    assert of_class(root, "d-fetch")
    said = "".join(root.itertext())
    assert "KV at 50 GB/s · layer by layer" in said
    assert "host · 512 GB at 50 GB/s for each client" in said
    alone = drawn({"pools": [pool()]}, plan_of())
    assert not any(of_class(alone, name) for name in ("d-handover", "d-tier", "d-fetch"))


RAG = ({"kind": "embed"}, {"kind": "retrieve"}, "prefill", "decode", {"kind": "detokenise"})
CASCADE = {"kind": "cascade", "stages": ["small", "large"], "fallback": [0.3]}


@pytest.mark.parametrize(
    ("pipeline", "edges"),
    [
        ((), [(IN, "llm"), ("llm", OUT)]),
        (
            RAG,
            [(IN, "embed"), ("embed", "retrieve"), ("retrieve", "llm"), ("llm", "detokenise"), ("detokenise", OUT)],
        ),
        (
            ({"kind": "route", "to": {"a": 0.5, "b": 0.5}}, {"kind": "detokenise"}),
            [
                (IN, "route"),
                ("route", "a"),
                ("a", "detokenise"),
                ("route", "b"),
                ("b", "detokenise"),
                ("detokenise", OUT),
            ],
        ),
        ((CASCADE,), [(IN, "small"), ("small", OUT), ("small", "large", True), ("large", OUT)]),
        (
            ({"kind": "tokenise"}, {**CASCADE, "judge": {"kind": "guard"}}, {"kind": "detokenise"}),
            [
                (IN, "tokenise"),
                ("tokenise", "small"),
                ("small", "guard"),
                ("guard", "detokenise"),
                ("detokenise", OUT),
                ("guard", "large", True),
                ("large", "detokenise"),
            ],
        ),
        (({"kind": "reason", "branches": 4},), [(IN, "llm"), ("llm", OUT)]),
        (
            ({"kind": "tokenise"}, {"kind": "reason", "branches": 4, "summary_tokens": 20}, {"kind": "detokenise"}),
            [(IN, "tokenise"), ("tokenise", "llm"), ("llm", "detokenise"), ("detokenise", OUT)],
        ),
    ],
)
def test_steps_of_pipelines(pipeline: tuple[Any, ...], edges: list[tuple[Any, ...]]) -> None:
    assert set(edges_of(plan_of(*pipeline))) == {Edge(*edge) for edge in edges}


def test_classes_with_pipelines_of_their_own_are_drawn_together() -> None:
    workload = Workload.parse(
        {
            **NO_CLIENTS,
            "lengths": LENGTHS,
            "classes": [
                {"name": "one", "share": 1},
                {"name": "two", "share": 1, "pipeline": [{"kind": "tokenise"}, "prefill", "decode"]},
            ],
        }
    )
    steps = {Edge(IN, "llm"), Edge("llm", OUT), Edge(IN, "tokenise"), Edge("tokenise", "llm")}
    assert set(edges_of(workload.plan)) == steps
    data = {"pools": [pool()], "services": [{"stage": "tokenise", "device": "epyc-9654", "clients": 2}]}
    root = drawn(data, workload.plan)
    assert len(of_class(root, "d-service")) == 1
    lines = [each for each in of_class(root, "d-flow") if "d-head" not in each.attrib["class"]]
    assert len(lines) == len(steps)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(study_names()))
def test_designs_of_shipped_studies(data: st.DataObject, name: str) -> None:
    spec = load_study(name)
    space, seed = spec.space.space, data.draw(st.integers(0, 2**32))
    for row in space.sample(5, np.random.default_rng(seed)):
        design = space.design_of(row)
        try:
            deployment = deployment_of(design, spec)
        except (ValidationError, SpecError):
            continue
        svg = draw_deployment(deployment, spec.workload.plan)
        check(svg)
        root = ET.fromstring(svg)
        assert len(of_class(root, "d-pool")) == len(deployment.pools)
        assert len(of_class(root, "d-service")) == len(spec.workload.plan.services)
        handovers = sum(each.role == "prefill" for each in deployment.pools)
        assert len(of_class(root, "d-handover")) == 2 * handovers


@pytest.mark.parametrize("seed", range(5))
def test_deployments_with_every_feature(seed: int) -> None:
    for pair in islice(random_pairs(100 * seed, per_workload=3), 12):
        svg = draw_deployment(pair.deployment, pair.plan)
        check(svg)
        root = ET.fromstring(svg)
        assert len(of_class(root, "d-pool")) == len(pair.deployment.pools)
        assert len(of_class(root, "d-tier")) == len(pair.deployment.tiers)
        apart = {each.stage for each in pair.deployment.pools if each.role == "prefill"}
        assert len(of_class(root, "d-handover")) == 2 * len(apart)
        heads = [each for each in of_class(root, "d-flow") if "d-head" in each.attrib["class"]]
        assert len(heads) == len(edges_of(pair.plan))


HOSTILE = '</text><script>alert(1)</script>"\x00\x1b\ud7ff😀 漢字 & ' + "w" * 300


def test_names_are_text_and_nothing_else() -> None:
    stage = HOSTILE[:100]
    data = {
        "pools": [pool(prefix_cache={})],
        "tiers": [{"name": "host", "memory_gb": 1, "gb_per_s": 1}],
        "services": [{"stage": "tokenise", "device": "epyc-9654"}],
    }
    pipeline = [{"kind": "tokenise"}, {"kind": "llm"}]
    workload = Workload.parse({**NO_CLIENTS, "lengths": LENGTHS, "pipeline": pipeline})
    deployment = Deployment.parse(data)
    # Specifications refuse characters that are no text; a drawing does not rely on it.
    names = {"name": HOSTILE, "stage": stage}
    deployment = deployment.model_copy(
        update={
            "pools": (deployment.pools[0].model_copy(update=names),),
            "tiers": (deployment.tiers[0].model_copy(update={"name": HOSTILE}),),
            "services": (deployment.services[0].model_copy(update={"stage": f"s{stage}"}),),
        }
    )
    tokenise, llm = workload.pipeline
    stages = (tokenise.model_copy(update={"name": f"s{stage}"}), llm.model_copy(update={"name": stage}))
    svg = draw_deployment(deployment, workload.model_copy(update={"pipeline": stages}).plan)
    check(svg)
    assert "<script" not in svg


@given(st.text(max_size=80), st.floats(20, 400))
def test_text_is_cut_to_its_room(text: str, room: float) -> None:
    shown = fitted(text, SMALL, room)
    assert shown == text or (shown.endswith("…") and width(shown, SMALL) <= room)
    for line in lines_of(text, SMALL, room):
        assert width(line, SMALL) <= room
    words = text.split()
    if all(width(word, SMALL) <= room for word in words):
        assert " ".join(lines_of(text, SMALL, room, most=1000)) == " ".join(words)


def test_text_fits_in_a_real_browser() -> None:
    if not shutil.which("chromium"):
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    drawings = [draw_deployment(each.deployment, each.plan) for each in islice(random_pairs(7, per_workload=2), 10)]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 360, "height": 640})
        page.set_content(
            f"<style>body{{margin:0;font-family:sans-serif}}svg{{display:block}}</style>{''.join(drawings)}"
        )
        # How far any text leaves the box around it, in units of the drawing.
        beyond = page.evaluate(
            """() => Math.max(...[...document.querySelectorAll('.d-pool, .d-service, .d-tiers')].flatMap(group => {
                 const card = group.querySelector('.d-card').getBBox();
                 return [...group.querySelectorAll('text')].flatMap(text => {
                   const box = text.getBBox();
                   return [card.x - box.x, box.x + box.width - card.x - card.width,
                           card.y - box.y, box.y + box.height - card.y - card.height];
                 });
               }))"""
        )
        browser.close()
    assert beyond <= 0

"""Every workload in docs/workloads.md is parsed and built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.spec.workload import Workload
from simulator.workload import build_requests, pipeline_plan

PAGE = Path(__file__).parents[2] / "docs" / "workloads.md"
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
]


def test_the_page_has_its_examples() -> None:
    keys = {key for each in EXAMPLES for key in each}
    assert len(EXAMPLES) >= 10
    assert keys >= {"session", "prefix", "media", "classes", "trace", "pipeline", "chunk_tokens"}
    kinds = {stage["kind"] for each in EXAMPLES for stage in each.get("pipeline", ()) if isinstance(stage, dict)}
    assert kinds >= {"llm", "route", "cascade", "reason", "encode"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: " ".join(each))
def test_an_example_builds(example: dict[str, Any], tmp_path: Path, reference: Path) -> None:
    if "trace" in example:
        example = {
            **example,
            "trace": {**example["trace"], "path": str(reference / "traces" / example["trace"]["path"])},
        }
    workload = Workload.parse({**example, "requests": 300})
    requests = build_requests(workload)
    plan = pipeline_plan(workload)
    assert requests.session_count == 300
    assert requests.ways in ((), plan.ways)
    (tmp_path / "workload.yaml").write_text(workload.to_yaml())
    again = Workload.from_yaml(tmp_path / "workload.yaml")
    assert again == workload
    assert build_requests(again).fingerprint() == requests.fingerprint()

"""Exported arguments in the engines' own parsers, which are built from their wheels without installing them.

The wheels are 430 MB, so that they are only used where somebody put them::

    pip install msgspec regex
    pip download --no-deps -d wheels $(python -m dse.export.parsers.describe --versions)
    DSE_ENGINE_WHEELS=wheels pytest tests/dse/test_export_engines.py
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
import zipfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.evaluation import deployment_of
from dse.export import export
from dse.export.exported import Account
from dse.export.load import export_load
from dse.export.parsers import COMMANDS
from dse.export.scripts import engine_command
from dse.library import load_study, study_names
from simulator import Deployment, Workload
from simulator.performance.engine_defaults import resolved

WHEELS = os.environ.get("DSE_ENGINE_WHEELS")
DESIGNS = 6
"""Of each shipped study."""
PROGRAM = """
import json, os, sys
from pathlib import Path
from dse.export.parsers.describe import built
from dse.export.parsers.standins import imported_from

command, wheel, asked = sys.argv[1], sys.argv[2], json.load(sys.stdin)
os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
refused = []
with imported_from([Path(wheel)]):
    parser = built(command)
    for arguments in asked:
        try:
            parser.parse_args(arguments)
        except (SystemExit, Exception) as error:
            refused.append([arguments, repr(error)])
json.dump(refused, sys.stdout)
"""

READ = """
import json, sys
from importlib import import_module
from pathlib import Path
from dse.export.parsers.describe import built
from dse.export.parsers.standins import imported_from

with imported_from([Path(sys.argv[1])]):
    given = built("sglang-router").parse_args(json.load(sys.stdin))
    read = import_module("sglang_router.router_args").RouterArgs.from_cli_args(given)
json.dump([read.prefill_urls, read.decode_urls], sys.stdout)
"""

pytestmark = pytest.mark.skipif(not WHEELS, reason="DSE_ENGINE_WHEELS names no folder of wheels (430 MB to download)")


def wheel_of(command: str) -> Path:
    package = {"vllm-bench": "vllm"}.get(command, command).replace("-", "_")
    (found,) = Path(str(WHEELS)).glob(f"{package}-*.whl")
    return found


def refused(command: str, asked: list[list[str]]) -> list[Any]:
    """Return what an engine's own parser does not take, and why."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, command, str(wheel_of(command))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: list[Any] = json.loads(ran.stdout)
    return found


@cache
def designs() -> tuple[Deployment, ...]:
    """Return designs of all shipped studies."""
    found = []
    for name in study_names():
        spec, kept = load_study(name), 0
        for row in spec.space.space.sample(20 * DESIGNS, np.random.default_rng(1)):
            try:
                found.append(deployment_of(spec.space.space.design_of(row), spec))
            except ValueError:
                continue
            kept += 1
            if kept == DESIGNS:
                break
    return tuple(found)


def lines_of(deployment: Deployment, engine: str) -> list[list[str]]:
    account = Account(resolved(deployment))
    commands = [engine_command(pool, account, engine) for pool in account.deployment.pools]
    model = "--model-path m" if engine == "sglang" else "m"
    return [[*shlex.split(model), *command.words()] for command in commands]


def routed(deployment: Deployment, engine: str) -> list[list[str]]:
    """Return what the scripts of routers give to them."""
    scripts = [text for name, text in export(deployment, engine).files.items() if "-router" in name]
    return [shlex.split(text.partition("arguments=(")[2].partition("\n)")[0], comments=True) for text in scripts]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_is_what_the_engine_itself_says(command: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "dse.export.parsers.describe", command, "--wheels", str(WHEELS)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    kept = resources.files("dse.export.parsers").joinpath(COMMANDS[command][1]).read_text(encoding="utf-8")
    assert json.loads(ran.stdout) == json.loads(kept)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_engine_takes_the_arguments_of_every_design(engine: str) -> None:
    asked = [line for deployment in designs() for line in lines_of(deployment, engine)]
    assert len(asked) > 50
    assert refused(engine, asked) == []


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_router_takes_the_arguments_of_every_design(engine: str) -> None:
    asked = [line for deployment in designs() for line in routed(deployment, engine)]
    assert len(asked) > 20
    assert refused(f"{engine}-router", asked) == []


def test_sglang_s_router_reads_the_bootstrap_port_behind_each_prefill_client() -> None:
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 2}
    pools = [{**pool, "name": role, "role": role} for role in ("prefill", "decode")]
    (words,) = routed(Deployment.parse({"pools": pools}), "sglang")
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(wheel_of("sglang-router"))],
        input=json.dumps(words),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout) == [
        [["http://HOST:30000", 9001], ["http://HOST:30001", 9002]],
        ["http://HOST:30002", "http://HOST:30003"],
    ]


def test_the_benchmark_takes_the_arguments_of_the_load_script() -> None:
    load = {"arrivals": {"process": "poisson", "rate_rps": 1}, "lengths": {"statistics": "azure-2023-conversation"}}
    workload = Workload.parse({"requests": 5, **load})
    script = export_load(designs()[0], workload).files["replay-vllm.sh"]
    words = shlex.split(script.partition("arguments=(")[2].partition("\n)")[0], comments=True)
    assert refused("vllm-bench", [words]) == []


def test_a_real_parser_refuses_what_it_does_not_know() -> None:
    wrong = [["m", "--no-such-flag", "1"], ["m", "--max-num-seqs", "many"], ["m", "--scheduling-policy", "sjf"]]
    wrong.append(["m", "--kv-transfer-config", '{"kv_role": "nobody"}'])
    assert [arguments for arguments, _ in refused("vllm", wrong)] == wrong


def test_the_benchmark_writes_the_fields_that_validate_reads() -> None:
    with zipfile.ZipFile(wheel_of("vllm")) as archive:
        tree = ast.parse(archive.read("vllm/benchmarks/serve.py"))
    said = {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    lists = {"input_lens", "output_lens", "ttfts", "itls", "start_times", "errors"}
    assert lists | {"completed", "request_rate", "burstiness", "max_concurrency", "total_input_tokens"} <= said
    assert {"total_output_tokens", "request_throughput", "output_throughput", "model_id"} <= said

"""The blocks of docs/service.md and docs/client.md run, in their order, against a real server; what they say is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dse.service.settings import Limits

from .served import Served

ROOT = Path(__file__).parents[2]
SERVICE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
CLIENT = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("docs") / "data", "--workers", "1") as server:
        yield server


def test_blocks_of_the_client_page(served: Served, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", CLIENT, re.DOTALL)
    assert len(blocks) >= 5
    for place, block in enumerate(blocks):
        done = subprocess.run(
            [sys.executable, "-c", block.replace(ADDRESS, served.url)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, f"block {place}: {done.stderr}"
        assert done.stdout, f"block {place}"
    assert "pools:" in (tmp_path / "deployment.yaml").read_text()
    assert (tmp_path / "calls.html").stat().st_size > 10_000


def test_block_of_the_readme(served: Served, tmp_path: Path) -> None:
    """The five lines, with fewer trials."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- needs a server -->\n```py\n(.*?)```", readme, re.DOTALL)
    assert "trials=200" in block
    block = block.replace("trials=200", "trials=30").replace(ADDRESS, served.url)
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "recommended" in done.stdout
    assert "finished" in done.stderr
    assert "pools:" in (tmp_path / "deployment.yaml").read_text()


def test_blocks_of_the_service_page(served: Served, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not on this machine")
    blocks = re.findall(r"<!-- runs -->\n```sh\n(.*?)```", SERVICE, re.DOTALL)
    assert len(blocks) == SERVICE.count("<!-- runs -->") >= 4
    printed = []
    for block in blocks:
        script = block.replace(ADDRESS, served.url)
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        printed.append(done.stdout)
    refused, watched, simulated, uploaded = printed
    problem, shown = json.loads(refused), json.loads(re.findall(r"```json\n(.*?)```", SERVICE, re.DOTALL)[0])
    assert problem.keys() >= shown.keys()
    assert problem["type"] == shown["type"]
    assert {each["field"] for each in problem["errors"]} >= {each["field"] for each in shown["errors"]}
    assert "event: study" in watched
    assert json.loads((tmp_path / "cancelled.json").read_text())["name"] == "chat"
    assert json.loads(simulated)["requests"] == 2000
    assert json.loads(uploaded)["requests"] == 3


def test_limits_are_those_of_the_program() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|", SERVICE, re.MULTILINE))
    assert {name: float(value.replace(",", "")) for name, value in rows.items()} == Limits().model_dump()


def test_routes_are_those_of_the_program(served: Served) -> None:
    """Every path that the page names is served, and every one that is served is named."""
    import httpx

    described = httpx.get(f"{served.url}/openapi.json", trust_env=False).json()["paths"]
    table = SERVICE[SERVICE.index("## The API") : SERVICE.index("## Events")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    for path in described:
        last = next(part for part in reversed(path.split("/")) if part and "{" not in part)
        assert any(last in row for row in rows), path
    for named in re.findall(r"(/[\w/{}-]+)", " ".join(rows)):
        assert any(path.endswith(named) for path in described), named


def test_commands_of_the_page_exist() -> None:
    """Options of ``dse serve`` and ``dse worker`` in the page are options of the program."""
    from typer.main import get_command

    from dse.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        name: {option for parameter in commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name in ("serve", "worker")
    }
    used = re.findall(r"dse (serve|worker)((?: +(?:--?[\w-]+|\S+))*)", SERVICE)
    assert len(used) > 6
    for name, options in used:
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", options)) <= known[name], options


def test_units_are_read_by_systemd(tmp_path: Path) -> None:
    """systemd finds nothing to say of the units."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    units = re.findall(r"`/etc/systemd/system/([\w@-]+)\.service`.*?```ini\n(.*?)```", SERVICE, re.DOTALL)
    assert [name for name, _ in units] == ["dse", "dse-worker@"]
    for name, unit in units:
        program = shutil.which("true") or ""
        path = tmp_path / f"{name}{'1' if name.endswith('@') else ''}.service"
        path.write_text(unit.replace("/opt/dse/bin/dse", program))
        done = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        said = [line for line in done.stderr.splitlines() if name in line]
        assert (done.returncode, said) == (0, []), done.stderr


def test_pictures_are_there() -> None:
    for name in re.findall(r"\]\((images/[\w-]+\.png)\)", SERVICE):
        assert (ROOT / "docs" / name).stat().st_size > 5_000, name

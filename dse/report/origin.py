"""Where the figures come from, and how to get them again."""

from __future__ import annotations

import hashlib
from html import escape

from dse import words
from dse.library import load_study, study_names
from dse.provenance import trace_sha256
from dse.report.chosen import Chosen
from dse.report.document import facts, version_of
from dse.report.tables import table, text
from dse.result import StudyResult
from dse.spec import Case, StudySpec
from simulator import Requests
from simulator.performance.provenance import Provenance, provenance

PACKAGES = ("dse-llm", "optuna", "numba", "numpy", "plotly")
"""Whose versions may matter."""


def about(result: StudyResult) -> str:
    """Return the HTML of what was studied, for the head of the report."""
    spec, clock = result.spec, result.clock
    excluded = len(result.evaluations) - len(result.simulated)
    share = clock.proposing_s / clock.wall_s if clock.wall_s > 0 else 0.0
    trials = (
        f"{len(result.evaluations):,} distinct designs proposed, {excluded:,} excluded before simulation, "
        f"{len(result.simulated):,} simulated, {len(result.feasible):,} feasible, {len(result.front):,} on the front"
    )
    stopped = " (stopped before the budget was used)" if result.interrupted else ""
    spent = f"{words.seconds(clock.wall_s)}, {words.percent(share)} of it proposing and keeping trials"
    simulating = f"{words.seconds(clock.simulator_cpu_s)} of processor time in the simulator"
    return facts(
        [
            ("Model", ", ".join(dict.fromkeys(spec.models.values()))),
            *(
                (f"Workload {case.name}" if len(spec.cases) > 1 else "Workload", _workload(case, requests))
                for case, requests in zip(spec.cases, result.load, strict=True)
            ),
            ("Designs", trials + stopped),
            ("Time", f"{spent}; {simulating}"),
        ]
    )


def _workload(case: Case, requests: Requests) -> str:
    return words.workload_words(case.workload, requests)


def provenance_section(chosen: Chosen) -> str:
    """Return the HTML of what the figures rest on: versions, seeds, fingerprints, calibration."""
    result, spec = chosen.result, chosen.result.spec
    several = len(spec.cases) > 1
    pairs = [
        ("Versions", ", ".join(f"{package} {version_of(package)}" for package in PACKAGES)),
        ("Seed of the search", f"{spec.seed}, sampler {spec.sampler}"),
    ]
    for case, requests in zip(spec.cases, result.load, strict=True):
        name = f" of {case.name}" if several else ""
        trace = case.workload.trace
        source = f"read from {trace.path}" if trace else f"generated with seed {case.workload.seed}"
        pairs.append((f"Requests{name}", f"{len(requests):,}, {source}; fingerprint {requests.fingerprint()}"))
        if trace and (digest := trace_sha256(case.workload)):
            pairs.append((f"Trace{name}", f"SHA-256 of {trace.path} {digest}"))
    pairs.append(("Study", f"SHA-256 of its YAML {hashlib.sha256(spec.to_yaml().encode()).hexdigest()}"))
    return f"<h2>Provenance</h2>{facts(pairs)}{_calibration(chosen)}"


def _calibration(chosen: Chosen) -> str:
    designs = chosen.front or chosen.nearest
    found = sorted(
        {provenance(pool) for design in designs for pool in design.deployment.pools},
        key=lambda each: (each.accelerator, str(each.engine)),
    )
    if not found:
        return ""
    best = chosen.recommended
    recommended = {provenance(pool) for pool in best.deployment.pools} if best else set[Provenance]()
    rows = [
        [
            text(f"{each.accelerator}{' (recommended)' if each in recommended else ''}"),
            text(_state(each.kernels, each.kernels_from)),
            text(_plain(each.kernels_source), "long"),
            text(each.engine or "by hand"),
            text(each.engine_calibrated if each.engine_status != "transferred" else _engine_from(each)),
            text(_plain(each.engine_source), "long"),
        ]
        for each in found
    ]
    head = ("Accelerator", "Kernels calibrated", "To", "Engine", "Engine calibrated", "To")
    return table("Calibration of every accelerator on the front", head, rows)


def _engine_from(each: Provenance) -> str:
    return f"transferred from {', '.join(each.engine_from)}"


def _state(status: str, source: str | None) -> str:
    return f"transferred from {source}" if status == "transferred" else status


def _plain(source: str) -> str:
    """Return a source without the scheme of addresses: the report holds no link to anywhere."""
    return source.replace("https://", "").replace("http://", "") or "–"


def reproduce(result: StudyResult) -> str:
    """Return the HTML of how to run the study again."""
    spec = result.spec
    shipped = shipped_name(spec)
    source = shipped or f"{spec.name}.yaml"
    how = "The study comes with dse-llm." if shipped else f"Save the study below as {source} first."
    commands = (
        f"# with dse-llm {version_of('dse-llm')}\ndse run {source} --seed {spec.seed}\n"
        f"dse report runs/{spec.name}\ndse why runs/{spec.name}"
    )
    return (
        f"<h2>Reproduce</h2><p>{escape(how)} The same seed and versions give the same designs, on any number of "
        "processes.</p>"
        f"<pre><code>{escape(commands)}</code></pre>"
        f"<details><summary>The study as YAML</summary><pre><code>{escape(spec.to_yaml())}</code></pre></details>"
    )


def shipped_name(spec: StudySpec) -> str | None:
    """Return the name by which a study comes with the package, with whatever seed; None if it does not."""
    for name in study_names():
        if name.replace("/", "-") == spec.name:
            known = load_study(name)
            if known == spec.model_copy(update={"seed": known.seed}):
                return name
    return None

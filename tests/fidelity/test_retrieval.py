"""Retrieval against FAISS on two Xeons: each by the other, and the shipped coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.calibration.retrieval import fit_retrieval, search_s
from dse.measurements.retrieval import Searches, read_searches
from simulator import SpecError
from simulator.catalog import cpu
from simulator.performance.retrieval import FITTED, Scanning, largest_deviate
from simulator.spec.stages import RetrieveStage

FILES = {
    "xeon-gold-6448y": "faiss_ivf_100m_xeon_gold_6448y.csv",
    "xeon-platinum-8380": "faiss_ivf_100m_xeon_platinum_8380.csv",
}
SCAN_BYTES_PER_S = RetrieveStage().scan_gb_per_s * 1e9


@pytest.fixture(scope="module")
def searches(reference: Path) -> dict[str, Searches]:
    return {name: read_searches(reference / "stages" / file) for name, file in FILES.items()}


def error(measured: Searches, device: str, scan_bytes_per_s: float, scanning: Scanning) -> float:
    assert len(measured.seconds) == 460
    found = search_s(measured, cpu(device), scan_bytes_per_s, scanning) / measured.seconds - 1
    return float(np.median(np.abs(found)))


@pytest.mark.parametrize(("fitted", "tested", "most"), [(*FILES, 0.115), (*reversed(FILES), 0.135)])
def test_one_xeon_predicts_the_other(fitted: str, tested: str, most: float, searches: dict[str, Searches]) -> None:
    rate, scanning = fit_retrieval(searches[fitted], cpu(fitted))
    assert error(searches[tested], tested, rate, scanning) <= most


def test_small_batches_predict_large_ones(searches: dict[str, Searches]) -> None:
    """Fitted on up to 32 queries, a round of the threads; tested on up to five rounds."""
    for device, measured in searches.items():
        small = measured.queries <= 32
        parts = [
            Searches(measured.shard[rows], measured.queries[rows], measured.probes[rows], measured.seconds[rows], 32)
            for rows in (small, ~small)
        ]
        rate, scanning = fit_retrieval(parts[0], cpu(device))
        found = search_s(parts[1], cpu(device), rate, scanning) / parts[1].seconds - 1
        assert np.median(np.abs(found)) <= 0.20


def test_the_shipped_coefficients_are_the_fit(searches: dict[str, Searches]) -> None:
    rate, scanning = fit_retrieval(list(searches.values()), [cpu(name) for name in searches])
    assert rate == pytest.approx(SCAN_BYTES_PER_S, rel=0.01)
    assert scanning.coarse_flops_per_s == pytest.approx(FITTED.coarse_flops_per_s, rel=0.01)
    assert scanning.query_spread == pytest.approx(FITTED.query_spread, rel=0.01)
    for device, measured in searches.items():
        assert error(measured, device, SCAN_BYTES_PER_S, FITTED) <= 0.13


def test_the_largest_of_several_deviates() -> None:
    """Against drawing: Blom is 5 % high for two, nearer for more."""
    rng = np.random.default_rng(1)
    for count in (2, 5, 32, 100):
        drawn = rng.standard_normal((20_000, count)).max(axis=1).mean()
        assert largest_deviate(np.array([float(count)]))[0] == pytest.approx(drawn, rel=0.07)
    assert largest_deviate(np.array([0.0, 1.0])).tolist() == [0, 0]


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="absent"):
        read_searches(tmp_path / "absent.csv")
    (tmp_path / "bad.csv").write_text("Cluster ID,Num Threads\n1,32\n")
    with pytest.raises(SpecError, match="bad"):
        read_searches(tmp_path / "bad.csv")

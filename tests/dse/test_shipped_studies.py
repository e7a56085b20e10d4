"""Every shipped study runs and finds something."""

from __future__ import annotations

import pytest

from dse import load_study, run_study, study_names
from dse.report import render_report


@pytest.mark.parametrize("name", study_names())
def test_shipped_study(name: str) -> None:
    spec = load_study(name)
    short = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 40})})
    result = run_study(short, jobs=1)
    assert len(result.simulated) == 40
    assert result.front
    page = render_report(result)
    assert spec.question[:20] in page
    assert all(f">{service.stage}<" in page for service in spec.services)

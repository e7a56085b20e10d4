"""Every shipped study runs and finds something; of a family its first member (tests/test_study_pages.py runs all)."""

from __future__ import annotations

import pytest

from dse import run_study
from dse.library import family_names, load_family
from dse.report import render_report


@pytest.mark.parametrize("name", family_names())
def test_shipped_study(name: str) -> None:
    spec = load_family(name).members[0].spec
    short = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 40})})
    result = run_study(short, jobs=1)
    assert 0 < len(result.simulated) <= 40  # a small space ends sooner: all that is left is excluded by proof
    assert result.front
    page = render_report(result)
    assert spec.question[:20] in page
    assert all(f">{service.stage}<" in page for service in spec.services)

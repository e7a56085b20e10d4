"""``python -m dse.calibration.shipped_engines DIR``: print the fitted entries of ``catalog/engines.yaml`` anew.

``DIR`` is a copy of the reference measurements.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from dse.calibration.engine_starts import FITS
from dse.calibration.engines import fit_engine


def main(reference: Path) -> None:
    """Fit every engine and print its entry."""
    for name, fit in FITS.items():
        profile = fit_engine(fit.runs(reference), fit.start, free=fit.free)
        entry = profile.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        print(yaml.safe_dump({name: entry}, sort_keys=False, width=118), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

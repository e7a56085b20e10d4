"""Where the files of the optional package with NVIDIA's measurements lie."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from simulator.errors import SpecError

DISTRIBUTION = "aiconfigurator-core"
EXTRA = "silicon"
"""The extra of this project that installs it."""

SYSTEMS = {
    "a100_sxm": "a100-80gb",
    "b200_sxm": "b200",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000",
}
"""The package's systems that are catalogued, with the catalogue's names."""


def systems_folder() -> Path:
    """Return the installed package's folder of systems; nothing of the package is imported.

    Raises
    ------
    SpecError
        If the package is not installed, or has no such folder.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise SpecError(f"{DISTRIBUTION}: not installed; pip install 'dse-llm[{EXTRA}]'") from None
    folder = Path(str(distribution.locate_file("aiconfigurator_core/systems")))
    if not folder.is_dir():
        raise SpecError(f"{DISTRIBUTION} {distribution.version}: has no folder {folder}")
    return folder

"""Names that may stand for files: who decides about files (:mod:`simulator.files`) is asked when they are validated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from simulator.files import named_file
from simulator.spec.engine_profile import EngineProfile


def asked(kind: str, *endings: str) -> AfterValidator:
    """Return a validator that asks about names with these endings, about all names if there are none."""

    def ask(name: object) -> object:
        if isinstance(name, str | Path) and str(name).endswith(endings or ""):
            named_file(name, kind)
        return name

    return AfterValidator(ask)


ModelName = Annotated[str, asked("model", ".json")]
EngineName = Annotated[str, asked("engine", ".yaml", ".yml")]
Engine = Annotated[str | EngineProfile, asked("engine", ".yaml", ".yml")]
KernelsPath = Annotated[str, asked("kernels")]
LinkName = Annotated[str, asked("link", ".yaml", ".yml")]
TracePath = Annotated[Path, Field(strict=False), asked("trace")]

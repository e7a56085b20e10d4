"""What deploys a design as one set of files: those of a target or of all, the load's, and the page of notes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dse.export.export import TARGETS, export
from dse.export.safe_names import one_line
from simulator import Deployment, Workload
from simulator.errors import SpecError, unknown_name

ALL: Final = "all"
"""Stands for every target, each in a folder of its own."""
NOTES: Final = "NOTES.md"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold: the same files give the same bytes."""


@dataclass(frozen=True)
class Bundle:
    """Files and notes.

    Attributes
    ----------
    files
        Content by path within the folder; among them ``NOTES.md``.
    notes
        By target (``load`` for the load): what its files do not hold.
    """

    files: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]]


def bundle(deployment: Deployment, target: str, workload: Workload | None = None) -> Bundle:
    """Return the files that deploy a design, and those that replay its load.

    Parameters
    ----------
    deployment
        The design.
    target
        One of :data:`dse.export.TARGETS`, or ``all``: then each has a folder of its name, and a note where it cannot
        hold the design.
    workload
        What is replayed, in the folder ``load``; nothing if absent.

    Raises
    ------
    SpecError
        If there is no such target, it cannot hold the design, or the workload cannot be built.
    """
    if target != ALL and target not in TARGETS:
        raise unknown_name("target", target, [*TARGETS, ALL])
    files: dict[str, str] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for each in TARGETS if target == ALL else [target]:
        within = f"{each}/" if target == ALL else ""
        try:
            found = export(deployment, each)
        except SpecError as error:
            if target != ALL:
                raise
            notes[each] = (one_line(f"Nothing is written: {error}."),)
            continue
        files |= {f"{within}{name}": text for name, text in found.files.items()}
        notes[each] = found.notes
    if workload is not None:
        from dse.export.load import export_load

        replay = export_load(deployment, workload)
        files |= {f"load/{name}": text for name, text in replay.files.items()}
        notes["load"] = replay.notes
    files[NOTES] = _page(notes)
    return Bundle(files, notes)


def write_bundle(files: Mapping[str, str], folder: Path, *, overwrite: bool = False) -> None:
    """Write files to a folder, each whole; scripts can be executed.

    Raises
    ------
    SpecError
        If one is there already and must not be overwritten, or would lie elsewhere; then none is written.
    """
    from dse.output import write_whole

    for name in files:
        _check_within(name)
    there = [name for name in files if (folder / name).exists()]
    if there and not overwrite:
        raise SpecError(f"{folder}: holds {', '.join(there[:5])}; overwrite them, or use another folder")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda place, text=text: place.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        if is_script(name):
            path.chmod(0o755)


def zipped(files: Mapping[str, str], folder: str) -> bytes:
    """Return files as a zip archive in which they lie in a folder; scripts can be executed when it is unpacked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, so that the rights are read
            entry.external_attr = (0o100755 if is_script(name) else 0o100644) << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def is_script(name: str) -> bool:
    """Return whether a file is to be executed."""
    return name.endswith(".sh")


def _check_within(name: str) -> None:
    """Refuse a path that may lead out of a folder, here or on another system.

    Raises
    ------
    SpecError
        Naming the path.
    """
    if {"", ".", ".."} & set(name.split("/")) or any(each in "\\:" or not each.isprintable() for each in name):
        raise SpecError(
            f"files: {one_line(name)!r} is no path within a folder; allowed: names with / between them, without .., "
            "drives, backslashes and control characters"
        )


def _page(notes: Mapping[str, tuple[str, ...]]) -> str:
    parts = ["# What these files do not hold, or hold in another way\n"]
    for target, sentences in notes.items():
        parts.append(f"\n## {target}\n\n" + "".join(f"- {_plain(each)}\n" for each in sentences))
    return "".join(parts)


def _plain(sentence: str) -> str:
    """Return a sentence in which names are neither HTML nor links to Markdown."""
    return re.sub(r"[\\<\[]", r"\\\g<0>", sentence)

"""An engine's command, script or configuration file as flags and values."""

from __future__ import annotations

import json
import os.path
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dse.export.parsers import FlagList, flag_list
from simulator.errors import SpecError
from simulator.spec.base import read_yaml

_ASSIGNMENT: Final = re.compile(r"[A-Z_][A-Z0-9_]*=")
_ENDS: Final = {";", "&&", "||", "|", "&", ">", ">>", "2>&1"}
#: Words that start an engine: the last of them, what stands before it, and the engine.
_STARTS: Final = (
    ("vllm", "serve", "vllm"),
    ("-m", "vllm.entrypoints.openai.api_server", "vllm"),
    ("-m", "dynamo.vllm", "vllm"),
    ("-m", "sglang.launch_server", "sglang"),
    ("sglang", "serve", "sglang"),
    ("-m", "dynamo.sglang", "sglang"),
)


@dataclass
class Arguments:
    """What an engine was started with.

    Attributes
    ----------
    engine
        ``vllm`` or ``sglang``.
    model
        What it serves; empty if that is not said.
    values
        By flag: True or False for switches, else a number, text or an object.
    environment
        Variables that were set before.
    unknown
        Words that the known version of the engine does not take.
    """

    engine: str
    model: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_arguments(source: str) -> Arguments:
    """Return the arguments of a command line, of a script or of an engine's YAML file.

    Parameters
    ----------
    source
        The command itself, or the path of a file with it.

    Raises
    ------
    SpecError
        If it starts neither vLLM nor SGLang, or cannot be read.
    """
    # Path.is_file() fails on a command that is longer than names of files may be.
    path, is_file = Path(source), os.path.isfile(source)
    # The last word of a command may be a YAML file, too.
    if path.suffix in (".yaml", ".yml") and (is_file or len(source.split()) == 1):
        return _of_yaml(read_yaml(path), source)
    if is_file:
        try:
            return _of_text(path.read_text(encoding="utf-8"), source)
        except UnicodeDecodeError:
            raise SpecError(f"{source}: not a UTF-8 text file") from None
    return _of_text(source, "command")


def _of_text(text: str, called: str) -> Arguments:
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise SpecError(f"{called}: not a shell command: {error}") from None
    words, array = _without_array(words)
    place, engine = _start(words, called)
    found = Arguments(engine)
    for word in words[:place]:
        if _ASSIGNMENT.match(word):
            name, _, value = word.partition("=")
            found.environment[name] = value
    own: list[str] = []
    for word in words[place + 1 :]:
        if word in _ENDS:
            break
        own += array if word.startswith("${arguments") else [word]
    _take(own, found)
    return found


def _without_array(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return words without the array ``arguments=(…)`` that exported scripts have, and what stands in it."""
    if "arguments=(" not in words:
        return list(words), []
    first = words.index("arguments=(")
    last = words.index(")", first) if ")" in words[first:] else len(words)
    return [*words[:first], *words[last + 1 :]], list(words[first + 1 : last])


def _start(words: Sequence[str], called: str) -> tuple[int, str]:
    """Return the place of the last word that starts an engine, and the engine."""
    for place, word in enumerate(words[1:], start=1):
        for before, last, engine in _STARTS:
            if word == last and words[place - 1].rsplit("/", 1)[-1] == before:
                return place, engine
    raise SpecError(
        f"{called}: starts no engine; expected vllm serve MODEL …, or python -m sglang.launch_server --model-path "
        "MODEL …"
    )


def _take(words: Sequence[str], found: Arguments) -> None:
    """Read flags and values."""
    flags = flag_list(found.engine)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            if found.model:
                found.unknown.append(word)
            found.model = found.model or word
            continue
        spelling, _, joined = word.partition("=")
        known = flags.find(spelling)
        if known is None and "." in spelling and (owner := flags.find(spelling.split(".", 1)[0])):
            # vLLM takes single keys of an object: --speculative-config.method ngram
            value = joined or (rest.pop(0) if rest else "")
            _put(found.values.setdefault(owner[0].name, {}), spelling.split(".")[1:], _scalar(value))
            continue
        if known is None:
            found.unknown.append(spelling)
            if not joined and rest and not rest[0].startswith("-"):
                rest.pop(0)
            continue
        flag, on = known
        if not flag.valued:
            found.values[flag.name] = on
            continue
        values = [joined] if joined else []
        while (rest and not values) or (rest and flag.several and not rest[0].startswith("-")):
            values.append(rest.pop(0))
        if not values:
            raise SpecError(f"{flag.name}: no value given")
        _set(found, flags, flag.name, values)
    found.model = str(found.values.pop("--model", None) or found.values.pop("--model-path", None) or found.model)


def _set(found: Arguments, flags: FlagList, name: str, values: list[str]) -> None:
    flag = flags.flags[name]
    read: list[Any] = []
    for value in values:
        try:
            if "$" in value:
                # Only the shell knows; whoever needs the value refuses it.
                read.append(value)
            elif flag.kind == "int":
                read.append(_whole(value))
            elif flag.kind == "float":
                read.append(float(value))
            elif flag.kind == "json":
                read.append(json.loads(value))
            else:
                read.append(value)
        except ValueError:
            raise SpecError(f"{name}: {value!r} is no value of the kind {flag.kind}") from None
        if flag.choices and read[-1] not in flag.choices:
            # Another version may know it: what reads the value judges.
            found.unknown.append(f"{name} {value}")
    found.values[name] = read if flag.several else read[0]


def _whole(text: str) -> int:
    """Return a whole number, also one like 8k (8000) or 8K (8192), as engines take them."""
    factors = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    if text[-1:] in factors:
        return int(float(text[:-1]) * factors[text[-1]])
    return int(text)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(target: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = value


def _of_yaml(data: Any, called: str) -> Arguments:
    """Return the arguments of an engine's configuration file: flags without hyphens in front."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise SpecError(f"{called}: must hold the engine's flags by name, e.g. max-num-seqs: 256")
    spellings = {key: f"--{key.replace('_', '-')}" for key in data}
    known = {
        name: sum(flag_list(name).find(each) is not None for each in spellings.values()) for name in ("vllm", "sglang")
    }
    if not max(known.values()):
        raise SpecError(f"{called}: holds no flag of vLLM or SGLang: {', '.join(list(data)[:6])}")
    found = Arguments("vllm" if known["vllm"] >= known["sglang"] else "sglang")
    _take(list(_words(data, spellings, flag_list(found.engine))), found)
    return found


def _words(data: dict[str, Any], spellings: dict[str, str], flags: FlagList) -> Iterator[str]:
    for key, value in data.items():
        name = spellings[key]
        known = flags.find(name)
        if isinstance(value, bool) and (known is None or not known[0].valued):
            if value or (known and known[0].kind == "toggle"):
                yield name if value else f"--no-{name[2:]}"
        elif value is not None:
            yield name
            if isinstance(value, list) and known and known[0].several:
                yield from map(str, value)
            else:
                yield json.dumps(value) if isinstance(value, dict | list) else str(value)

"""Read a model from a Hugging Face ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.catalog.model import Model
from simulator.errors import SpecError


def model_from_config(path: str | Path) -> Model:
    """Return the model that a Hugging Face ``config.json`` describes.

    The model is named after the file, or after its folder if the file is ``config.json``. A sliding
    window is not modelled: the longest context is cut to it. Rotary scaling is taken to be already
    part of ``max_position_embeddings``.

    Parameters
    ----------
    path
        A configuration whose ``model_type`` is one of :data:`MODEL_TYPES`.

    Raises
    ------
    SpecError
        If the file cannot be read, a key is missing or not of its type, or the model type is not
        supported.
    """
    config = _read(path)
    kind = config.values.get("model_type")
    if kind is None:
        raise config.error("model_type", "missing")
    if not isinstance(kind, str) or kind not in _READERS:
        raise SpecError(f"{path}: model_type: no support for {kind!r}; supported: {', '.join(MODEL_TYPES)}")
    resolved = Path(path).resolve()
    name = resolved.parent.name if resolved.stem == "config" else resolved.stem
    fields = _READERS[kind](config)
    return Model.parse({"name": name, "source": str(path), **fields}, source=str(path))


@dataclass(frozen=True)
class _Config:
    """The values of a configuration, read with errors that name the file and the key."""

    path: str
    values: dict[str, Any]

    def error(self, key: str, problem: str) -> SpecError:
        return SpecError(f"{self.path}: {key}: {problem}")

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return an integer; one that is missing or null is the default, or an error if there is none."""
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(key, "missing")
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(key, f"must be an integer of at least {least}, given {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, given {value!r}")
        return value


def _read(path: str | Path) -> _Config:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a UTF-8 text file") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise SpecError(f"{path}: must be a JSON object, given a {type(values).__name__}")
    return _Config(str(path), values)


def _multi_head(config: _Config) -> dict[str, Any]:
    """Return the fields of a plain transformer: as many KV heads as query heads, two-matrix MLP."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if config.values.get("head_dim") is None and hidden % heads:
        raise config.error("hidden_size", f"{hidden} is not a multiple of num_attention_heads {heads}")
    return {
        "layers": config.count("num_hidden_layers"),
        "hidden": hidden,
        "attention_heads": heads,
        "kv_heads": config.count("num_key_value_heads", heads),
        "head_dim": config.count("head_dim", hidden // heads),
        "intermediate": config.count("intermediate_size"),
        "gated_mlp": False,
        "vocab": config.count("vocab_size"),
        "tied_embeddings": config.flag("tie_word_embeddings", False),
        "max_context_tokens": _max_context(config),
    }


def _max_context(config: _Config) -> int:
    longest = config.count("max_position_embeddings")
    if config.flag("use_sliding_window", True):
        return min(longest, config.count("sliding_window", longest))
    return longest


def _bert(config: _Config) -> dict[str, Any]:
    fields = _multi_head(config)
    positions = fields["max_context_tokens"]
    return {**fields, "kind": "encoder", "tied_embeddings": True, "learned_positions": positions}


def _llama(config: _Config) -> dict[str, Any]:
    return {**_multi_head(config), "gated_mlp": True}


def _grouped_query(config: _Config) -> dict[str, Any]:
    config.count("num_key_value_heads")  # its default differs from model to model: it must be there
    return _llama(config)


def _qwen3(config: _Config) -> dict[str, Any]:
    config.count("head_dim")  # it is not hidden_size / num_attention_heads
    return _grouped_query(config)


def _mixtral(config: _Config) -> dict[str, Any]:
    moe = {
        "experts": config.count("num_local_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": config.count("intermediate_size"),
    }
    return {**_grouped_query(config), "moe": moe}


def _qwen3_moe(config: _Config) -> dict[str, Any]:
    dense = config.values.get("mlp_only_layers") or []
    if config.count("decoder_sparse_step", 1) != 1:
        raise config.error("decoder_sparse_step", "only 1 (experts in every layer) is supported")
    if not isinstance(dense, list):
        raise config.error("mlp_only_layers", f"must be a list, given {dense!r}")
    if dense != list(range(len(dense))):
        raise config.error("mlp_only_layers", f"only leading layers are supported, given {dense}")
    moe = {
        "experts": config.count("num_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": config.count("moe_intermediate_size"),
        "dense_layers": len(dense),
    }
    return {**_qwen3(config), "moe": moe}


def _deepseek(config: _Config) -> dict[str, Any]:
    if config.count("moe_layer_freq", 1) != 1:
        raise config.error("moe_layer_freq", "only 1 (experts in every layer) is supported")
    width = config.count("moe_intermediate_size")
    shared = config.count("n_shared_experts", 0, least=0)
    moe = {
        "experts": config.count("n_routed_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": width,
        "shared_experts": shared,
        "shared_intermediate": width if shared else 0,
        "dense_layers": config.count("first_k_dense_replace", least=0),
    }
    if "q_lora_rank" not in config.values:
        raise config.error("q_lora_rank", "missing (null where queries are projected directly)")
    q_lora_rank = config.values["q_lora_rank"]
    mla = {
        "kv_lora_rank": config.count("kv_lora_rank"),
        "q_lora_rank": None if q_lora_rank is None else config.count("q_lora_rank"),
        "qk_rope_head_dim": config.count("qk_rope_head_dim"),
        "qk_nope_head_dim": config.count("qk_nope_head_dim"),
        "v_head_dim": config.count("v_head_dim"),
    }
    head_dim = config.count("qk_rope_head_dim") + config.count("qk_nope_head_dim")
    return {**_llama(config), "head_dim": head_dim, "moe": moe, "mla": mla}


_READERS: dict[str, Callable[[_Config], dict[str, Any]]] = {
    "bert": _bert,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "gpt_neox": _multi_head,
    "llama": _llama,
    "mistral": _grouped_query,
    "mixtral": _mixtral,
    "phi": _multi_head,
    "qwen2": _grouped_query,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
}

MODEL_TYPES = tuple(_READERS)
"""The values of ``model_type`` that :func:`model_from_config` reads."""

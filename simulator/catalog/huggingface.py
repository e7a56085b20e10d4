"""Read a model from a Hugging Face ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.catalog.model import Model
from simulator.errors import SpecError
from simulator.files import confined, opened


def model_from_config(path: str | Path) -> Model:
    """Return the model that a Hugging Face ``config.json`` describes.

    The model is named after the file, or after its folder if the file is ``config.json``. Rotary scaling is taken to
    be already part of ``max_position_embeddings``.

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
    with opened(path, "model") as file:
        return _model_of(file, path)


def _model_of(file: Path, given: str | Path) -> Model:
    """Return the model of a file that a person calls by another name."""
    path = str(given)
    config = _read(file, path)
    kind = config.values.get("model_type")
    if kind is None:
        raise config.error("model_type", "missing")
    if not isinstance(kind, str) or kind not in _READERS:
        raise SpecError(f"{path}: model_type: no support for {kind!r}; supported: {', '.join(MODEL_TYPES)}")
    resolved = Path(path) if confined() else file.resolve()
    name = (resolved.parent.name if resolved.stem == "config" else "") or resolved.stem
    fields = _READERS[kind](config)
    return Model.parse({"name": name, "source": path, **fields}, source=path)


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

    def kinds(self, key: str) -> list[str]:
        """Return a list of names, one for each layer."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of names, given {value!r}")
        if len(value) != self.count("num_hidden_layers"):
            raise self.error(key, f"must name {self.count('num_hidden_layers')} layers, given {len(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, given {value!r}")
        return value


def _read(file: Path, path: str) -> _Config:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a UTF-8 text file") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise SpecError(f"{path}: must be a JSON object, given a {type(values).__name__}")
    return _Config(path, values)


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
        "max_context_tokens": config.count("max_position_embeddings"),
    }


def _windowed(config: _Config, layers: int) -> dict[str, Any]:
    """Return the field of a sliding window in so many layers, or where ``layer_types`` says; nothing without one."""
    if "layer_types" in config.values:
        layers = config.kinds("layer_types").count("sliding_attention")
    if config.values.get("sliding_window") is None or not config.flag("use_sliding_window", True) or layers <= 0:
        return {}
    return {"window": {"layers": layers, "window_tokens": config.count("sliding_window")}}


def _bert(config: _Config) -> dict[str, Any]:
    fields = _multi_head(config)
    positions = fields["max_context_tokens"]
    return {**fields, "kind": "encoder", "tied_embeddings": True, "learned_positions": positions}


def _llama(config: _Config) -> dict[str, Any]:
    return {**_multi_head(config), "gated_mlp": True}


def _grouped_query(config: _Config) -> dict[str, Any]:
    config.count("num_key_value_heads")  # its default differs from model to model: it must be there
    return _llama(config)


def _mistral(config: _Config) -> dict[str, Any]:
    return {**_grouped_query(config), **_windowed(config, config.count("num_hidden_layers"))}


def _qwen2(config: _Config) -> dict[str, Any]:
    layers = config.count("num_hidden_layers")
    # Layers from max_window_layers on have the window.
    windowed = layers - config.count("max_window_layers", layers, least=0)
    return {**_grouped_query(config), **_windowed(config, windowed)}


def _gemma(config: _Config, period: int) -> dict[str, Any]:
    """Return the fields of Gemma 2 or 3: every ``period``-th layer sees everything, the others a window."""
    layers = config.count("num_hidden_layers")
    config.count("head_dim")
    tied = {"tied_embeddings": config.flag("tie_word_embeddings", True)}
    return {**_grouped_query(config), **tied, **_windowed(config, layers - layers // period)}


def _gemma2(config: _Config) -> dict[str, Any]:
    return _gemma(config, 2)


def _gemma3(config: _Config) -> dict[str, Any]:
    return _gemma(config, config.count("sliding_window_pattern", 6, least=2))


def _gpt_oss(config: _Config) -> dict[str, Any]:
    moe = {
        "experts": config.count("num_local_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": config.count("intermediate_size"),
    }
    config.count("head_dim")
    layers = config.count("num_hidden_layers")
    return {**_grouped_query(config), "moe": moe, **_windowed(config, layers - layers // 2)}


def _jamba(config: _Config) -> dict[str, Any]:
    fields = _grouped_query(config)
    layers = config.count("num_hidden_layers")

    def every(kind: str) -> int:
        period = config.count(f"{kind}_layer_period")
        return len(range(config.count(f"{kind}_layer_offset", least=0), layers, period))

    moe = {
        "experts": config.count("num_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": config.count("intermediate_size"),
        "dense_layers": layers - every("expert"),
        "dense_first": False,
    }
    ssm = {
        "layers": layers - every("attn"),
        "heads": config.count("mamba_expand") * fields["hidden"],
        "head_dim": 1,
        "state": config.count("mamba_d_state"),
        "conv": config.count("mamba_d_conv"),
        "dt_rank": config.count("mamba_dt_rank"),
    }
    return {**fields, "moe": moe, "ssm": ssm}


def _granite_hybrid(config: _Config) -> dict[str, Any]:
    fields = _grouped_query(config)
    recurrent = config.kinds("layer_types").count("mamba")
    shared = config.count("shared_intermediate_size")
    if config.count("num_local_experts", least=0):
        fields["moe"] = {
            "experts": config.count("num_local_experts"),
            "experts_per_token": config.count("num_experts_per_tok"),
            "expert_intermediate": fields["intermediate"],
            "shared_experts": 1,
            "shared_intermediate": shared,
        }
    else:
        fields["intermediate"] = shared
    if recurrent:
        fields["ssm"] = {
            "layers": recurrent,
            "heads": config.count("mamba_n_heads"),
            "head_dim": config.count("mamba_d_head"),
            "state": config.count("mamba_d_state"),
            "groups": config.count("mamba_n_groups"),
            "conv": config.count("mamba_d_conv"),
            "chunk_tokens": config.count("mamba_chunk_size"),
        }
    return fields


def _nemotron_hybrid(config: _Config) -> dict[str, Any]:
    config.count("num_key_value_heads")
    pattern = config.values.get("hybrid_override_pattern")
    layers = config.count("num_hidden_layers")
    if not isinstance(pattern, str) or set(pattern) - set("M*-") or len(pattern) != layers:
        raise config.error("hybrid_override_pattern", f"must be {layers} of the letters M, * and -, given {pattern!r}")
    key = "head_dim" if "head_dim" in config.values else "attention_head_dim"
    ssm = {
        "layers": pattern.count("M"),
        "heads": config.count("mamba_num_heads"),
        "head_dim": config.count("mamba_head_dim"),
        "state": config.count("ssm_state_size"),
        "groups": config.count("n_groups"),
        "conv": config.count("conv_kernel"),
        "chunk_tokens": config.count("chunk_size"),
        "feed_forward_layers": pattern.count("-"),
    }
    return {**_multi_head(config), "head_dim": config.count(key), "ssm": ssm}


def _qwen3(config: _Config) -> dict[str, Any]:
    config.count("head_dim")  # it is not hidden_size / num_attention_heads
    return _qwen2(config)


def _mixtral(config: _Config) -> dict[str, Any]:
    moe = {
        "experts": config.count("num_local_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "expert_intermediate": config.count("intermediate_size"),
    }
    return {**_mistral(config), "moe": moe}


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
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt_neox": _multi_head,
    "gpt_oss": _gpt_oss,
    "granitemoehybrid": _granite_hybrid,
    "jamba": _jamba,
    "llama": _llama,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "nemotron_h": _nemotron_hybrid,
    "phi": _multi_head,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
}

MODEL_TYPES = tuple(_READERS)
"""The values of ``model_type`` that :func:`model_from_config` reads."""

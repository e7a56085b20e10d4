"""The catalog: figures against published ones, and errors a person can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.catalog import (
    Accelerator,
    Model,
    accelerator,
    accelerator_names,
    model,
    model_from_config,
    model_names,
)
from simulator.errors import SpecError

# Billions of parameters as published: model cards, papers, or the size of the safetensors files.
PUBLISHED = {
    "bge-large-en": 0.335,
    "bloom-176b": 176.25,
    "clip-vit-l-336": 0.3035,  # the vision part of 0.4279
    "codellama-34b": 33.74,
    "deepseek-v2-lite": 15.7,
    "deepseek-v3": 671,
    "gemma-2-9b": 9.24,  # this and the next four: the model cards' and reports' tables
    "gemma-2-27b": 27.23,
    "gemma-3-12b": 11.77,  # without the encoder of 0.417
    "gemma-3-27b": 27.02,
    "gpt-oss-20b": 20.91,
    "gpt-oss-120b": 116.83,
    "granite-4.0-h-small": 32.2,
    "jamba-1.5-mini": 51.6,
    "kimi-k2.5": 1026,  # the text part, that of Kimi K2
    "llama-2-7b": 6.74,
    "llama-2-13b": 13.02,
    "llama-2-70b": 68.98,
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.55,
    "llama-3.1-405b": 405.85,
    "llama-3.2-1b": 1.24,
    "llama-3.2-3b": 3.21,
    "mamba2-2.7b": 2.70,
    "minimax-m2.5": 229,
    "mistral-7b": 7.25,
    "mistral-7b-v0.1": 7.24,
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 140.6,
    "nemotron-h-8b": 8.10,
    "phi-2": 2.78,
    "qwen2-7b": 7.62,
    "qwen2.5-7b": 7.62,
    "qwen2.5-14b": 14.77,
    "qwen2.5-32b": 32.76,
    "mistral-nemo-12b": 12.25,
    "yi-34b": 34.39,
    "llama-4-scout": 108.64,  # with the vision part
    "qwen2.5-72b": 72.7,
    "qwen3-8b": 8.19,
    "qwen3-14b": 14.8,
    "qwen3-32b": 32.8,
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235.1,
    "siglip-so400m": 0.4125,  # 0.428 with the pooling head
    "whisper-large-v3": 0.637,  # the encoder's part of 1.54
}


@pytest.mark.parametrize("name", model_names())
def test_parameters_are_within_one_percent_of_the_published_count(name: str) -> None:
    assert model(name).parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3.2-1b", 1_235_814_400),
        ("mistral-7b", 7_248_023_552),
        ("mixtral-8x7b", 46_702_792_704),
    ],
)
def test_models_without_biases_are_counted_exactly(name: str, count: int) -> None:
    assert model(name).parameters == count


@pytest.mark.parametrize(
    ("name", "billions", "tolerance"),
    [
        ("mixtral-8x7b", 12.9, 0.01),
        ("mixtral-8x22b", 39.1, 0.01),
        ("qwen3-235b-a22b", 22, 0.01),
        ("qwen3-30b-a3b", 3.3, 0.02),
        ("jamba-1.5-mini", 12, 0.02),
        ("granite-4.0-h-small", 9, 0.03),
        ("deepseek-v3", 37, 0.02),  # published without the embedding table: see the next test
    ],
)
def test_active_parameters(name: str, billions: float, tolerance: float) -> None:
    assert model(name).active_parameters_per_token / 1e9 == pytest.approx(billions, rel=tolerance)


def test_multiplied_parameters_leave_out_the_embedding_table() -> None:
    assert model("deepseek-v3").multiplied_parameters_per_token / 1e9 == pytest.approx(36.6, rel=0.002)
    llama = model("llama-3.1-8b")
    norms = (2 * llama.layers + 1) * llama.hidden
    assert llama.multiplied_parameters_per_token == llama.parameters - llama.vocab * llama.hidden - norms


def test_a_dense_model_uses_all_its_parameters() -> None:
    dense = model("llama-3.1-70b")
    assert dense.active_parameters_per_token == dense.parameters
    assert (dense.dense_layers, dense.moe_layers, dense.expert_parameters) == (80, 0, 0)


def test_an_encoder_has_no_head() -> None:
    encoder = model("bge-large-en")
    assert encoder.kind == "encoder"
    assert encoder.head_parameters == 0


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("llama-3.1-405b", 516_096),
        ("llama-2-7b", 524_288),
        ("deepseek-v3", 70_272),
    ],
)
def test_kv_bytes_per_token_in_bf16(name: str, kv_bytes: int) -> None:
    assert 2 * model(name).kv_elements_per_token == kv_bytes


def test_latent_attention_has_its_own_head_widths() -> None:
    deepseek = model("deepseek-v3")
    assert (deepseek.attention_qk_dim, deepseek.attention_v_dim) == (192, 128)
    assert deepseek.kv_elements_per_token_per_layer == 576
    assert (deepseek.dense_layers, deepseek.moe_layers) == (3, 58)
    llama = model("llama-3.1-8b")
    assert (llama.attention_qk_dim, llama.attention_v_dim) == (128, 128)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kv_heads": 5}, "attention_heads 32 is not a multiple of kv_heads 5"),
        ({"hidden": 0}, "hidden"),
        ({"layers": "32"}, "layers: Input should be a valid integer, given '32'"),
        ({"color": "blue"}, "color"),
        ({"moe": {"experts": 4, "experts_per_token": 8, "expert_intermediate": 64}}, "is above experts 4"),
        (
            {"moe": {"experts": 4, "experts_per_token": 2, "expert_intermediate": 64, "shared_experts": 1}},
            "must both be zero or both be positive",
        ),
        (
            {"moe": {"experts": 4, "experts_per_token": 2, "expert_intermediate": 64, "dense_layers": 32}},
            "must be below layers 32",
        ),
        ({"window": {"layers": 33, "window_tokens": 512}}, "window.layers 33 must be at most the 32 layers"),
        ({"ssm": {"layers": 33, "heads": 8, "head_dim": 64, "state": 16}}, "must be at most layers 32"),
        ({"learned_positions": 512}, "max_context_tokens 131072 is above learned_positions 512"),
        ({"mla": {**dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 64)}}, "mla.v_head_dim"),
    ],
)
def test_impossible_models_are_refused(change: dict[str, Any], problem: str) -> None:
    data = {**model("llama-3.1-8b").model_dump(mode="json"), **change}
    with pytest.raises(SpecError, match=problem):
        Model.parse(data, source="test")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"head_dim": 128}, "mla: head_dim 128 must be .* = 192"),
        ({"kv_heads": 8}, "mla: kv_heads 8 must equal attention_heads 128"),
    ],
)
def test_latent_attention_must_fit_the_heads(change: dict[str, Any], problem: str) -> None:
    data = {**model("deepseek-v3").model_dump(mode="json"), **change}
    with pytest.raises(SpecError, match=problem):
        Model.parse(data, source="test")


def test_there_are_enough_entries() -> None:
    assert len(accelerator_names()) >= 14
    assert len(model_names()) >= 14


@pytest.mark.parametrize("name", accelerator_names())
def test_every_figure_of_an_accelerator_has_a_source(name: str) -> None:
    chip = accelerator(name)
    figures = chip.model_dump(exclude={"name", "vendor", "sources", "scale_up", "scale_out_link"}, exclude_none=True)
    nested = [f"scale_up.{field}" for field in type(chip.scale_up).model_fields if field != "link"]
    missing = [field for field in [*figures, *nested] if not chip.source(field)]
    assert missing == []


@pytest.mark.parametrize("name", accelerator_names())
def test_figures_are_in_a_sane_range(name: str) -> None:
    chip = accelerator(name)
    base = chip.peak_flops("bf16" if "bf16" in chip.precisions else "fp16")
    assert 50 < base / chip.memory_bandwidth_bytes_per_s < 700
    # Narrower formats are dense too: never more than twice (4 bits: four times) the 16-bit rate,
    # but for int8 on GeForce, whose 16-bit rate with 32-bit accumulation is halved.
    assert chip.peak_tflops.get("fp8", 0) * 1e12 <= 2.05 * base
    assert chip.peak_tflops.get("fp4", 0) * 1e12 <= 4.05 * base
    assert chip.scale_up.bytes_per_s < chip.memory_bandwidth_bytes_per_s
    assert 0.95 * chip.memory_bytes < chip.usable_memory_bytes < 1.08 * chip.memory_bytes


def test_peaks_are_dense() -> None:
    assert accelerator("h100-sxm").peak_flops("bf16") == pytest.approx(989e12, rel=0.001)
    assert accelerator("h100-sxm").peak_flops("fp8") == pytest.approx(1979e12, rel=0.001)
    assert accelerator("b200").peak_flops("fp4") == pytest.approx(9000e12)
    assert accelerator("l4").peak_flops("bf16") == pytest.approx(121e12)
    assert accelerator("a100-80gb").peak_flops("bf16") == pytest.approx(312e12)


def test_quantities_are_in_si_units() -> None:
    chip = accelerator("h100-sxm")
    assert chip.memory_bytes == 80e9
    assert chip.usable_memory_bytes == 81559 * 2**20
    assert chip.memory_bandwidth_bytes_per_s == 3.35e12
    assert chip.scale_up.bytes_per_s == 450e9
    assert chip.scale_up.latency_s == pytest.approx(2e-6)
    assert chip.scale_out_bytes_per_s == 50e9


def test_a_precision_the_chip_lacks_is_an_error() -> None:
    with pytest.raises(SpecError, match="a100-80gb: no 'fp8'; allowed: fp16, bf16, int8"):
        accelerator("a100-80gb").peak_flops("fp8")
    with pytest.raises(SpecError, match="no 'bf16'; allowed: fp16"):
        accelerator("v100-16gb").peak_flops("bf16")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"idle_w": 800}, "idle_w 800.0 is above tdp_w 700.0"),
        ({"sources": {"memory": "a rumour"}}, "sources: no such field: memory"),
        ({"peak_tflops": {"bf17": 1}}, "peak_tflops.bf17"),
        ({"peak_tflops": {}}, "peak_tflops"),
        ({"memory_gb": -1}, "memory_gb: .* greater than 0, given -1"),
        ({"memory_gb": float("nan")}, "memory_gb"),
    ],
)
def test_impossible_accelerators_are_refused(change: dict[str, Any], problem: str) -> None:
    data = {**accelerator("h100-sxm").model_dump(mode="json"), **change}
    with pytest.raises(SpecError, match=problem):
        Accelerator.parse(data, source="test")


def test_an_accelerator_may_leave_the_driver_figure_out() -> None:
    data = accelerator("h100-sxm").model_dump(mode="json", exclude={"memory_reported_mib"})
    assert Accelerator.parse(data, source="test").usable_memory_bytes == 80e9


def test_unknown_names_list_close_ones() -> None:
    with pytest.raises(SpecError, match=r"accelerator: no 'h100-sxn'; did you mean h100-sxm"):
        accelerator("h100-sxn")
    with pytest.raises(SpecError, match=r"model: no 'llama3\.1-8b'; did you mean llama-3\.1-8b"):
        model("llama3.1-8b")


def test_lookups_are_cached() -> None:
    assert accelerator("h100-sxm") is accelerator("h100-sxm")
    assert model("llama-3.1-8b") is model("llama-3.1-8b")


def test_entries_can_be_keys() -> None:
    chip = accelerator("h100-sxm")
    assert {chip: 1, model("deepseek-v3"): 2}[chip.model_copy()] == 1
    assert chip != chip.model_copy(update={"price_usd_per_hour": 1.0})


# Hugging Face configurations, as far as they matter here.
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
MIXTRAL = {
    **LLAMA,
    "model_type": "mixtral",
    "max_position_embeddings": 32768,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "tie_word_embeddings": False,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
DEEPSEEK_LITE = {
    **DEEPSEEK,
    "model_type": "deepseek_v2",
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "vocab_size": 102400,
}
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = {
    **QWEN3_MOE,
    "model_type": "qwen3",
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "num_attention_heads": 64,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
}
QWEN2 = {
    **LLAMA,
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
PHI = {
    "model_type": "phi",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 51200,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "vocab_size": 30522,
}
GEMMA_3 = {
    "model_type": "gemma3_text",
    "head_dim": 128,
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 62,
    "num_key_value_heads": 16,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
    "vocab_size": 262208,
}
GEMMA_2 = {
    "model_type": "gemma2",
    "head_dim": 256,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 16,
    "num_hidden_layers": 42,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "vocab_size": 256000,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "layer_types": 18 * ["sliding_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "vocab_size": 201088,
}
JAMBA = {
    "model_type": "jamba",
    "attn_layer_offset": 4,
    "attn_layer_period": 8,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_dt_rank": 256,
    "mamba_expand": 2,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 65536,
}
GRANITE = {
    "model_type": "granitemoehybrid",
    "hidden_size": 4096,
    "intermediate_size": 768,
    "layer_types": 4 * [*9 * ["mamba"], "attention"],
    "mamba_chunk_size": 256,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_n_heads": 128,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "num_local_experts": 72,
    "shared_intermediate_size": 1536,
    "tie_word_embeddings": True,
    "vocab_size": 100352,
}
NEMOTRON = {
    "model_type": "nemotron_h",
    "attention_head_dim": 128,
    "chunk_size": 128,
    "conv_kernel": 4,
    "hidden_size": 4096,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "intermediate_size": 21504,
    "mamba_head_dim": 64,
    "mamba_num_heads": 128,
    "max_position_embeddings": 8192,
    "n_groups": 8,
    "num_attention_heads": 32,
    "num_hidden_layers": 52,
    "num_key_value_heads": 8,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "vocab_size": 131072,
}


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama-3.1-8b", LLAMA),
        ("mixtral-8x7b", MIXTRAL),
        ("deepseek-v3", DEEPSEEK),
        ("deepseek-v2-lite", DEEPSEEK_LITE),
        ("qwen3-30b-a3b", QWEN3_MOE),
        ("qwen3-32b", QWEN3),
        ("qwen2-7b", QWEN2),
        ("phi-2", PHI),
        ("bge-large-en", BERT),
        ("gemma-3-27b", GEMMA_3),
        ("gemma-2-9b", GEMMA_2),
        ("gpt-oss-120b", GPT_OSS),
        ("jamba-1.5-mini", JAMBA),
        ("granite-4.0-h-small", GRANITE),
        ("nemotron-h-8b", NEMOTRON),
    ],
)
def test_a_hugging_face_config_gives_the_catalogued_model(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    folder = tmp_path / name
    folder.mkdir()
    read = model(write(folder, config))
    ignored = {"source"}
    assert read.model_dump(exclude=ignored) == model(name).model_dump(exclude=ignored)


def test_a_model_read_from_a_config_survives_yaml(tmp_path: Path) -> None:
    read = model_from_config(write(tmp_path, DEEPSEEK))
    path = tmp_path / "model.yaml"
    path.write_text(read.to_yaml(), encoding="utf-8")
    assert Model.from_yaml(path) == read


# What each config says of its layers: those with full attention, a window, a recurrent state, dense blocks, experts.
@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({**LLAMA, "model_type": "mistral", "num_hidden_layers": 32, "sliding_window": 4096}, (0, 32, 0, 32, 0)),
        ({**LLAMA, "model_type": "mistral", "num_hidden_layers": 32, "sliding_window": None}, (32, 0, 0, 32, 0)),
        ({**QWEN2, "use_sliding_window": True, "max_window_layers": 21}, (21, 7, 0, 28, 0)),
        ({**QWEN2, "use_sliding_window": True, "max_window_layers": 28}, (28, 0, 0, 28, 0)),
        ({**GEMMA_3, "layer_types": 10 * [*5 * ["sliding_attention"], "full_attention"]}, (10, 50, 0, 60, 0)),
        ({**GRANITE, "num_local_experts": 0}, (4, 0, 36, 40, 0)),
    ],
)
def test_kinds_of_layers(tmp_path: Path, config: dict[str, Any], layers: tuple[int, ...]) -> None:
    if "layer_types" in config:
        config = {**config, "num_hidden_layers": len(config["layer_types"])}
    read = model(write(tmp_path, config))
    found = (read.growing_layers, read.window_layers, read.state_space_layers, read.dense_layers, read.moe_layers)
    assert found == layers


def test_old_llama_configs_have_as_many_kv_heads_as_heads(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert model(write(tmp_path, config)).kv_heads == 32


def test_leading_dense_layers_of_qwen3_moe(tmp_path: Path) -> None:
    assert model(write(tmp_path, {**QWEN3_MOE, "mlp_only_layers": [0, 1]})).dense_layers == 2


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({key: value for key, value in LLAMA.items() if key != "hidden_size"}, "hidden_size: missing"),
        ({key: value for key, value in QWEN3.items() if key != "head_dim"}, "head_dim: missing"),
        ({key: value for key, value in DEEPSEEK.items() if key != "q_lora_rank"}, "q_lora_rank: missing"),
        ({key: value for key, value in LLAMA.items() if key != "model_type"}, "model_type: missing"),
        ({**LLAMA, "model_type": "mamba"}, "no support for 'mamba'; supported: bert, deepseek_v2"),
        ({**LLAMA, "model_type": ["llama"]}, "no support for"),
        ({**LLAMA, "hidden_size": "4096"}, "hidden_size: must be an integer of at least 1, given '4096'"),
        ({**LLAMA, "num_hidden_layers": True}, "num_hidden_layers: must be an integer"),
        ({**LLAMA, "num_hidden_layers": -1}, "num_hidden_layers: must be an integer of at least 1, given -1"),
        ({**LLAMA, "hidden_size": 4097}, "4097 is not a multiple of num_attention_heads 32"),
        ({**LLAMA, "num_key_value_heads": 5}, "attention_heads 32 is not a multiple of kv_heads 5"),
        ({**LLAMA, "tie_word_embeddings": "no"}, "tie_word_embeddings: must be true or false, given 'no'"),
        ({**MIXTRAL, "num_experts_per_tok": 9}, "experts_per_token 9 is above experts 8"),
        ({**DEEPSEEK, "moe_layer_freq": 2}, "moe_layer_freq: only 1"),
        ({**QWEN3_MOE, "decoder_sparse_step": 2}, "decoder_sparse_step: only 1"),
        ({**QWEN3_MOE, "mlp_only_layers": [3]}, "mlp_only_layers: only leading layers"),
        ({**QWEN3_MOE, "mlp_only_layers": 3}, "mlp_only_layers: must be a list, given 3"),
        ({**GRANITE, "layer_types": ["mamba"]}, "layer_types: must name 40 layers, given 1"),
        ({**GRANITE, "layer_types": "mamba"}, "layer_types: must be a list of names, given 'mamba'"),
        ({**NEMOTRON, "hybrid_override_pattern": "M-E"}, "hybrid_override_pattern: must be 52 of the letters"),
        ([1, 2], "must be a JSON object, given a list"),
    ],
)
def test_malformed_configs_name_the_key(tmp_path: Path, config: object, problem: str) -> None:
    path = write(tmp_path, config)
    with pytest.raises(SpecError, match=problem) as caught:
        model(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_unreadable_configs(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        model(tmp_path / "absent.json")
    path = tmp_path / "broken.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(SpecError, match="not valid JSON"):
        model(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not a UTF-8 text file"):
        model(path)

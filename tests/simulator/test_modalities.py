"""Images and sound: tokens of an image, encoders, and a second feed-forward block for the tokens of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator import Pool, SpecError, catalog
from simulator.catalog import Model
from simulator.performance.coefficients import BY_HAND
from simulator.performance.encoder import network
from simulator.performance.engine import engine_of
from simulator.performance.image_tokens import image_tokens, tiled_image_tokens
from simulator.performance.layers import layers


@pytest.mark.parametrize(
    ("size", "options", "tokens"),
    [
        ((224, 224), {}, 64),  # 16 x 16 patches, arXiv:2409.12191 section 2.1 (66 with its two markers)
        ((1372, 2044), {}, 49 * 73),
        ((1000, 700), {}, 36 * 25),  # 35.7 and 25 units of 28 pixels
        ((336, 336), {"merge": 1}, 576),  # CLIP
        ((384, 384), {"merge": 1}, 27 * 27),  # SigLIP
        ((4000, 3000), {"max_tokens": 1280}, 41 * 30),  # of 41.3 and 31.0 units, 30.98 rounded down
        ((28, 28), {}, 4),
        ((10, 10), {"min_tokens": 1}, 1),
    ],
)
def test_tokens_of_an_image(size: tuple[int, int], options: dict[str, int], tokens: int) -> None:
    assert image_tokens(*size, **options) == tokens


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((448, 448), 1),
        ((896, 448), 3),  # 2 x 1 and a thumbnail
        ((1344, 896), 7),  # 3 x 2
        ((800, 1300), 7),  # 0.615 is nearest to 2 x 3 of what 12 tiles can form
    ],
)
def test_tokens_of_tiles(size: tuple[int, int], tiles: int) -> None:
    assert tiled_image_tokens(*size) == tiles * 256


@pytest.mark.parametrize(
    ("name", "tokens", "gflops"),
    [
        # 2 · tokens · matrices + 4 · layers · hidden · tokens², by hand from the configs
        ("clip-vit-l-336", 577, 2 * 577 * 24 * 12 * 1024**2 / 1e9 + 4 * 24 * 1024 * 577**2 / 1e9),
        ("whisper-large-v3", 1500, 2 * 1500 * 32 * 12 * 1280**2 / 1e9 + 4 * 32 * 1280 * 1500**2 / 1e9),
    ],
)
def test_encoders_of_images_and_sound(name: str, tokens: int, gflops: float) -> None:
    """The arithmetic of one image or 30 s of sound, and a time that is not below it."""
    bare = replace(network(catalog.model(name), catalog.accelerator("h100-sxm"), 1), coefficients=BY_HAND)
    work = bare.tokens(np.array([float(tokens)]), tokens)
    assert work.compute_s[0] == pytest.approx(gflops * 1e9 / (989.4e12 * 0.65), rel=0.1)
    assert work.seconds[0] >= work.compute_s[0]


def two_blocks() -> Model:
    return catalog.model("llama-2-7b").model_copy(update={"modality_experts": True})


def test_a_second_block_is_held_and_visited_by_some() -> None:
    block = 32 * 3 * 4096 * 11008
    plain, both = catalog.model("llama-2-7b"), two_blocks()
    assert both.parameters - plain.parameters == block
    assert both.active_parameters_per_token == plain.parameters
    assert both.multiplied_parameters_per_token == plain.multiplied_parameters_per_token
    e = engine_of(Pool.parse({"model": "llama-2-7b", "accelerator": "h100-sxm"}))
    assert replace(e, model=both).weight_bytes - e.weight_bytes == 2 * block


def test_a_second_block_is_read_in_steps_with_prompts() -> None:
    """Steps of more tokens than the batch can decode read it, others do not; nobody computes more."""
    e = engine_of(Pool.parse({"model": "llama-2-7b", "accelerator": "h100-sxm"}))
    tokens = np.array([1.0, 256, 257, 2048])
    plain = layers(e, BY_HAND, tokens)
    both = layers(replace(e, model=two_blocks(), most_decodes=256), BY_HAND, tokens)
    read = 2 * 32 * 3 * 4096 * 11008 / (3.35e12 * BY_HAND.kernels.memory_share)
    np.testing.assert_allclose(both.seconds - plain.seconds, [0, 0, read, read], atol=1e-12)
    np.testing.assert_array_equal(both.compute_s, plain.compute_s)


def test_a_second_block_needs_dense_layers() -> None:
    data = catalog.model("mixtral-8x7b").model_dump(mode="json") | {"modality_experts": True}
    with pytest.raises(SpecError, match="modality_experts: only where every layer"):
        Model.parse(data)

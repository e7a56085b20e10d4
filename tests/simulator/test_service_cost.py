"""Cost of routers and of encoders of images and sound: against independent arithmetic and against other stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import catalog
from simulator.errors import SpecError
from simulator.performance.service_cost import ServiceCost, service_cost
from simulator.spec.stages import EncodeStage, GuardStage, RouteStage, Service, ServiceStage

TOKENS = np.array([0.0, 1, 7, 64, 500, 4096, 100_000])
BATCHES = np.array([0.0, 1, 2, 8, 32, 33, 64, 200])
XEON = "xeon-gold-6448y"
TO = (("small", 0.5), ("large", 0.5))
RULES, CLASSIFIER = RouteStage(to=TO, us_per_token=0.3), RouteStage(to=TO, model="bge-large-en")
ENCODE = [EncodeStage(model=model) for model in ("clip-vit-l-336", "siglip-so400m", "whisper-large-v3")]
CASES: list[tuple[ServiceStage, str]] = [(stage, device) for stage in (CLASSIFIER, *ENCODE) for device in (XEON, "l4")]
CASES += [(RULES, XEON)]


def cost(stage: ServiceStage, device: str = XEON, **more: Any) -> ServiceCost:
    service = Service(stage=stage.name, device=device)
    return service_cost(stage, service, more.pop("tokens", TOKENS), more.pop("sequences", BATCHES), **more)


@pytest.mark.parametrize(("stage", "device"), CASES)
def test_costs_grow_and_cover_their_work(stage: ServiceStage, device: str) -> None:
    found = cost(stage, device)
    for part in (found.linear_s, found.sequences_s):
        assert (part >= 0).all()
        assert (np.diff(part) >= 0).all()
    assert found.sequences_s[0] == 0
    assert found.linear_s[-1] > found.linear_s[1]
    for busy in (found.linear_compute_s, found.linear_memory_s):
        assert (busy <= found.linear_s + 1e-12).all()
    for busy in (found.sequences_compute_s, found.sequences_memory_s):
        assert (busy <= found.sequences_s + 1e-12).all()


def test_quantities() -> None:
    assert [cost(stage).quantity for stage in (RULES, CLASSIFIER, *ENCODE)] == ["prompt"] * 2 + ["media"] * 3


def test_a_router_by_rules_is_affine() -> None:
    found = cost(RouteStage(to=TO, us_per_request=70, us_per_token=0.4))
    assert found.linear_s == pytest.approx(0.4e-6 * TOKENS)
    assert found.sequences_s == pytest.approx(70e-6 * BATCHES)
    assert found.linear_compute_s == pytest.approx(0.4e-6 * TOKENS / 32)


@pytest.mark.parametrize("model", ["bge-large-en", "llama-3.2-1b"])
def test_a_router_with_a_model_costs_a_guard_of_it(model: str) -> None:
    router, guard = RouteStage(to=TO, model=model), GuardStage(model=model)
    for length in (100, 400):
        found, expected = (cost(stage, "l4", attention_tokens=length) for stage in (router, guard))
        np.testing.assert_array_equal(found.linear_s, expected.linear_s)
        np.testing.assert_array_equal(found.sequences_s, expected.sequences_s)


ENCODERS = [("clip-vit-l-336", 576), ("siglip-so400m", 729), ("whisper-large-v3", 1500)]


@pytest.mark.parametrize(("model", "patches"), ENCODERS)
@pytest.mark.parametrize("device", ["h100-sxm", XEON])
def test_encoding_against_operations(model: str, patches: int, device: str) -> None:
    """64 images (clips of sound): 2 operations a matrix element and patch, 4 hidden a pair of one image's patches.

    Matrices and attention at the shares of the peak in the catalogue, for the processor 50 and 30 %; norms, activations
    and tiles that are not full take up to one and a half times as long again.
    """
    shapes = {
        "clip-vit-l-336": (24, 1024, 4096),
        "siglip-so400m": (27, 1152, 4304),
        "whisper-large-v3": (32, 1280, 5120),
    }
    layers, hidden, inner = shapes[model]
    tokens = 64.0 * patches
    pairs = 64 * patches**2
    kernels = catalog.kernel_profile("h100-sxm")
    shares = (kernels.product("bf16").compute_share, kernels.attention.prefill_compute_share)
    peak, matrices, attention = {"h100-sxm": (989.4e12, *shares), XEON: (137.6e12, 0.5, 0.3)}[device]
    products_s = 2 * tokens * layers * (4 * hidden**2 + 2 * hidden * inner) / (peak * matrices)
    expected_s = products_s + 4 * hidden * pairs * layers / (peak * attention)
    stage = EncodeStage(model=model, patches_per_image=patches)
    found = cost(stage, device, tokens=np.array([tokens]), sequences=np.array([64.0]))
    assert expected_s < found.linear_s[0] < 2.5 * expected_s
    assert found.linear_compute_s[0] == pytest.approx(expected_s)


def test_attention_of_an_encoder_is_within_one_image() -> None:
    """The lengths of the workload's texts do not matter, those of an image do, up to the encoder's own context."""
    tokens = np.array([57_600.0])

    def encode_s(patches: int, **more: Any) -> float:
        return float(cost(EncodeStage(patches_per_image=patches), "l4", tokens=tokens, **more).linear_s[0])

    assert encode_s(576, attention_tokens=1.0) == encode_s(576, attention_tokens=100_000.0)
    assert encode_s(144) < encode_s(576)
    assert encode_s(577) == encode_s(2880)  # tiles of 577 positions
    pair_s = (encode_s(576) - encode_s(144)) / (57_600 * (576 - 144))
    assert pair_s == pytest.approx(
        24 * 4 * 1024 / (121e12 * catalog.kernel_profile("l4").attention.prefill_compute_share)
    )


def test_a_batch_without_images_is_not_encoded() -> None:
    found = cost(EncodeStage(), "l4", tokens=np.array([0.0, 1, 576]))
    assert found.linear_s[0] == found.linear_compute_s[0] == found.linear_memory_s[0] == 0
    assert found.linear_s[1] == pytest.approx(24 * 3.2e-4)  # the host launches all layers


@pytest.mark.parametrize(
    ("stage", "device", "words"),
    [
        (RULES, "l4", ["device: route runs on a CPU only", "l4", "grace"]),
        (RouteStage(to=TO, model="bge-larg-en"), "l4", ["model: no 'bge-larg-en'", "bge-large-en"]),
        (EncodeStage(model="clip-vit-l"), "l4", ["model: no 'clip-vit-l'", "clip-vit-l-336"]),
    ],
)
def test_what_cannot_run_is_refused(stage: ServiceStage, device: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        cost(stage, device)
    for word in words:
        assert word in str(caught.value)

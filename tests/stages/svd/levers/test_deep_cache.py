"""Features kept between steps: what is reused, what is recomputed, how much is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

from posedance.stages.errors import ConfigError
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.levers.deep_cache import cache_deep_features


@pytest.fixture(scope="module", params=["attention last", "no attention last"])
def unet(request):
    unet = tiny_random().unet
    if request.param == "no attention last":
        config = dict(unet.config) | {
            "up_block_types": ("UpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
            "layers_per_block": 2,
        }
        unet = UNetSpatioTemporalConditionModel.from_config(config)
    return unet.eval().requires_grad_(False)


def inputs(seed=0, batch=2, frames=3):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, frames, 8, 8, 8, generator=generator)
    token = torch.randn(batch, 1, 32, generator=generator)
    return sample, torch.tensor(0.5), token, torch.tensor([[6.0, 128.0, 0.02]]).repeat(batch, 1)


@torch.no_grad()
def test_what_is_kept_is_exact_for_the_call_it_came_from_and_shallow_for_others(unet):
    plain, other = unet(*inputs()).sample, unet(*inputs(1)).sample
    cache = cache_deep_features(unet, 1 << 30)
    with cache.fill(7):
        assert torch.equal(unet(*inputs()).sample, plain)
    assert cache.has(7) and not cache.has(6)
    with cache.reuse(7):
        assert torch.equal(unet(*inputs()).sample, plain)
        shallow = unet(*inputs(1)).sample
    assert not torch.allclose(shallow, other, atol=1e-4)
    assert not torch.allclose(shallow, plain, atol=1e-4)
    cache.detach()
    assert torch.equal(unet(*inputs(1)).sample, other)
    assert not any("forward" in vars(m) or m._forward_hooks for m in unet.modules())


@torch.no_grad()
def test_only_the_first_convolution_and_the_last_layer_run(unet):
    ran = []
    handles = [
        module.register_forward_hook(lambda m, a, o, name=name: ran.append(name))
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    cache = cache_deep_features(unet, 1 << 30)
    with cache.fill(0):
        unet(*inputs())
    ran.clear()
    with cache.reuse(0):
        unet(*inputs())
    cache.detach()
    for handle in handles:
        handle.remove()
    last = len(unet.up_blocks[-1].resnets) - 1
    assert ran[0] == "conv_in" and ran[-1] == "conv_out"
    assert all(name.startswith(f"up_blocks.1.resnets.{last}.") for name in ran[1:-1])


@torch.no_grad()
def test_no_more_is_kept_than_allowed(unet):
    cache = cache_deep_features(unet, keep_bytes=1 << 30)
    with cache.fill(0):
        unet(*inputs())
    one = cache.kept_bytes
    cache.detach()
    assert one > 0
    cache = cache_deep_features(unet, keep_bytes=2 * one)
    for key in (0, 1, 2, 0):
        with cache.fill(key):
            unet(*inputs())
    assert [cache.has(key) for key in range(3)] == [True, True, False]
    assert cache.kept_bytes == 2 * one
    cache.detach()


def run(generator, num_frames=7, **changes):
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, 32, 32, 3), np.uint8)
    settings = replace(generator.settings(), steps=4, window_size=4, window_overlap=1, **changes)
    return generator.denoise(pixels[0], pixels, settings)


def test_a_sampler_reuses_features_and_needs_no_control_then():
    generator, asked = tiny_random(), []
    plain = run(generator)
    project = generator.controlnext.mid_convs[1]
    handle = project.register_forward_hook(lambda m, a, o: asked.append(len(o)))
    exact, calls = run(generator), len(asked)
    cached, cached_calls = run(generator, cache_interval=2), len(asked) - calls
    handle.remove()
    assert torch.equal(exact, plain)
    assert cached_calls * 2 == calls
    distance = ((cached - plain).norm() / plain.norm()).item()
    assert 0 < distance < 1
    starved = replace(generator, keep_deep_bytes=0)
    assert torch.equal(run(starved, cache_interval=2), plain)


def test_guidance_on_a_part_of_the_steps():
    generator = tiny_random()
    batches = []
    handle = generator.unet.conv_in.register_forward_hook(lambda m, a, o: batches.append(len(o)))
    everywhere = run(generator, guidance_scale=3.0)
    assert set(batches) == {4}, "each half is a call of its own"
    windows = len(batches) // 8
    batches.clear()
    middle = run(generator, guidance_scale=3.0, guidance_interval=(0.25, 0.75))
    assert len(batches) == 4 * windows + 2 * windows
    handle.remove()
    nowhere = run(generator, guidance_scale=3.0, guidance_interval=(0.0, 0.0))
    assert torch.equal(nowhere, run(generator, guidance_scale=1.0))
    assert not torch.allclose(middle, everywhere) and not torch.allclose(middle, nowhere)


def test_both_together_recompute_where_the_other_half_is_missing():
    generator = tiny_random()
    both = run(generator, guidance_scale=3.0, guidance_interval=(0.25, 0.75), cache_interval=3)
    assert both.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_interval": 0}, "cache interval 0"),
        ({"guidance_interval": (0.5, 0.2)}, r"guidance interval 0.5 to 0.2"),
        ({"guidance_interval": (0.0, 1.5)}, r"guidance interval 0 to 1.5"),
        ({"cache_interval": 2, "schedule": "published"}, "in full"),
        ({"guidance_interval": (0.1, 1.0), "schedule": "published"}, "in full"),
        ({"consistency": True, "schedule": "published"}, "in full"),
        ({"consistency": True, "align_your_steps": True}, "noise levels of its own"),
    ],
)
def test_levers_without_a_meaning_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_random(), **changes)

"""Layout, attention kernels and compiled blocks change speed, and numbers only by rounding."""

import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends, sdpa_kernel

from posedance.stages.models import load_generator
from posedance.stages.svd.levers import fast
from posedance.stages.svd.levers.fast import (
    attention_backends,
    attention_shapes,
    compile_regions,
    convolve_channels_last,
    flatten_convolutions,
)
from posedance.stages.svd.levers.feed_forward import chunk_feed_forward

CPU = torch.device("cpu")


def call(unet):
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 3, 8, 8, 8, generator=generator)
    token = torch.randn(2, 1, 32, generator=generator)
    with torch.no_grad():
        return unet(sample, torch.tensor(0.5), token, torch.zeros(2, 3), return_dict=False)[0]


def one_level():
    """A UNet with each class of block that is compiled, in as few shapes as can be."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNetSpatioTemporalConditionModel(
            sample_size=16,
            down_block_types=("CrossAttnDownBlockSpatioTemporal",),
            up_block_types=("CrossAttnUpBlockSpatioTemporal",),
            block_out_channels=(32,),
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=32,
            num_attention_heads=(2,),
        )
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-5  # diffusers has another in the middle, which would be one more graph
    return unet


@pytest.fixture
def tiny():
    return load_generator("tiny-random")


def test_channels_last_changes_the_layout_alone(tiny):
    before = call(tiny.unet)
    state = {key: value.clone() for key, value in tiny.unet.state_dict().items()}
    convolve_channels_last(tiny.unet)
    assert tiny.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, state[key]) for key, value in tiny.unet.state_dict().items())
    assert torch.allclose(call(tiny.unet), before, atol=1e-5)


def test_temporal_convolutions_in_two_dimensions_are_the_same_until_they_are_detached(tiny):
    before = call(tiny.unet)
    handle = flatten_convolutions(tiny.unet)
    flat = [module for module in tiny.unet.modules() if "forward" in vars(module)]
    assert len(flat) == sum(isinstance(module, torch.nn.Conv3d) for module in tiny.unet.modules()) > 0
    assert torch.allclose(call(tiny.unet), before, atol=1e-5)
    handle.detach()
    assert torch.equal(call(tiny.unet), before)
    assert not any("forward" in vars(module) for module in tiny.unet.modules())


@pytest.mark.parametrize(
    "changes", [{"kernel_size": (3, 3, 1)}, {"stride": (2, 1, 1)}, {"groups": 2}, {"padding": (1, 1, 0)}]
)
def test_other_convolutions_stay_as_they_are(changes):
    network = torch.nn.ModuleList([torch.nn.Conv3d(4, 4, **{"kernel_size": (3, 1, 1), **changes})])
    flatten_convolutions(network)
    assert "forward" not in vars(network[0])


def test_feed_forward_in_parts_is_the_same_until_it_is_detached(tiny):
    before = call(tiny.unet)
    handle = chunk_feed_forward(tiny.unet, 3)
    assert torch.allclose(call(tiny.unet), before, atol=1e-5)
    handle.detach()
    assert torch.equal(call(tiny.unet), before)


def test_attention_takes_kernels_that_the_device_has(tiny):
    shapes = attention_shapes(tiny.unet, 3, 8, 8)
    assert shapes == [(1, 2, 64, 16), (64, 2, 3, 16)]
    backends = attention_backends(CPU, torch.float32, shapes)
    assert SDPBackend.CUDNN_ATTENTION not in backends and backends[-1] == SDPBackend.MATH
    before = call(tiny.unet)
    with sdpa_kernel(backends, set_priority=True):
        assert torch.allclose(call(tiny.unet), before, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: no g++")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_blocks_compute_the_same_and_serve_the_next_video_too(tiny, caplog):
    tiny.unet = one_level()
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    settings = tiny.settings()
    before = tiny.denoise(frames[0], frames, settings)
    tiny.compile = True
    first = tiny.denoise(frames[0], frames, settings)
    graphs = counters["stats"]["unique_graphs"]
    assert 3 <= graphs < 10, "each class of block, and few shapes of it"
    again = tiny.denoise(frames[0], frames, settings)
    assert counters["stats"]["unique_graphs"] == graphs
    assert "nothing is compiled" not in caplog.text and torch.equal(first, again)
    assert (first - before).abs().max() <= 1e-3 * before.abs().max()
    tiny.compile = False
    assert torch.equal(tiny.denoise(frames[0], frames, settings), before)


BROKEN = """
import torch
from torch import nn
from diffusers.models.resnet import SpatioTemporalResBlock
from posedance.stages.svd.levers.fast import compile_regions
block = SpatioTemporalResBlock(32, 32, temb_channels=16).eval()
inputs = torch.randn(4, 32, 8, 8), torch.zeros(4, 16), torch.zeros(2, 2)
with torch.no_grad():
    before = block(*inputs)
    after = compile_regions(nn.ModuleList([block])).run(lambda: block(*inputs))
print(torch.equal(before, after), "forward" in vars(block))
"""

CACHED = """
from dataclasses import replace
import numpy as np, torch
from posedance.stages.svd.files.tiny import tiny_random
generator = tiny_random()
frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
settings = replace(generator.settings(), steps=2, cache_interval=2)
plain = generator.denoise(frames[0], frames, settings)
generator.compile = True
print(torch.equal(generator.denoise(frames[0], frames, settings), plain))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "printed"), [(BROKEN, "True False"), (CACHED, "True")], ids=["a block", "under a cache"]
)
def test_without_a_compiler_the_blocks_run_as_they_are(script, printed, tmp_path):
    environment = {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=280
    )
    assert run.returncode == 0, run.stderr
    assert "nothing is compiled, which costs time and nothing else: " in run.stderr
    assert run.stdout.strip() == printed


class Breaking(torch.nn.Module):
    """Calls of this fail with `error` as long as its compiled regions are on."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def __call__(self, regions):
        if regions.enabled and regions._undo:
            raise self.error
        return "plain"


@pytest.mark.parametrize(
    "error",
    [PermissionError("cache"), FileNotFoundError("Python.h"), RuntimeError("C++ compile error"), KeyError()],
)
def test_whatever_a_compiler_fails_with_the_blocks_run_without(error, tiny, caplog):
    regions = compile_regions(tiny.unet)
    assert regions.run(lambda: Breaking(error)(regions)) == "plain"
    assert "nothing is compiled" in caplog.text
    assert not any("forward" in vars(module) for module in tiny.unet.modules())


def test_other_errors_come_through_compiled_blocks_as_they_are(tiny, caplog):
    regions = compile_regions(tiny.unet)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")):
        with pytest.raises(type(error)) as caught:
            regions.run(lambda error=error: Breaking(error)(regions))
        assert caught.value is error and not caplog.records
    with pytest.raises(ZeroDivisionError):
        regions.run(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("capability", "first"), [((9, 0), SDPBackend.CUDNN_ATTENTION), ((8, 0), SDPBackend.FLASH_ATTENTION)]
)
def test_a_gpu_takes_the_kernel_that_is_ahead_on_it(tiny, monkeypatch, capability, first):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(fast, "runs", lambda *_: True)
    tiny.device = torch.device("cuda")
    settings = tiny.settings()
    plan = replace(tiny, device=CPU).plan_memory(9, 32, 32, settings)
    with ExitStack() as stack:
        tiny._prepare_unet(settings, plan, (8, 4, 4), stack)
        assert _cur_sdpa_kernel_backends(with_priority=True)[0] == first


def test_memory_that_runs_out_while_kernels_are_tried_speaks_against_none(tiny, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", full)
    backends = attention_backends(CPU, torch.float32, attention_shapes(tiny.unet, 3, 8, 8))
    assert SDPBackend.FLASH_ATTENTION in backends


def test_videos_shorter_than_a_window_are_not_compiled(tiny, caplog):
    """Each length would be compiled anew."""
    caplog.set_level("INFO")
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    settings = tiny.settings()
    plain = tiny.denoise(frames[0], frames, settings)
    tiny.compile = True
    counters.clear()
    assert torch.equal(tiny.denoise(frames[0], frames, settings), plain)
    assert counters["stats"]["unique_graphs"] == 0
    assert "5 frames are fewer than a window's" in caplog.text

"""The generator on a GPU that is not there: devices, dtypes, and the memory plan against what lives there."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cuda_allocator import fits
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from pretended_gpu import DEVICE, NoDeviceError, load_guard, pretended_gpu
from safetensors.torch import save_file

from posedance.pipeline.evaluate.bench.svd import full_generator
from posedance.stages.errors import DeviceMemoryError
from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.models import save_generator
from posedance.stages.svd.decoder import Decoder
from posedance.stages.svd.files.lora import load_lora
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.memory.plan import WORKSPACE

GIB = 1 << 30
SIDE, COUNT = 64, 8
WAYS = {
    "fast": {},
    "published order": {"schedule": "published"},
    "published windows": {"window_plan": "published"},
    "MimicMotion's windows": {"window_plan": "mimicmotion"},
    "consistency": {"consistency": True, "guidance_scale": 1.0},
    "deep cache": {"cache_interval": 2, "steps": 2},
    "guidance interval": {"guidance_interval": (0.3, 0.8), "steps": 2},
}


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory):
    try:
        load_guard(tmp_path_factory.mktemp("guard"))
    except NoDeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def gpu(monkeypatch):
    """A function that opens a GPU of so many bytes."""
    return lambda total=80 * GIB: pretended_gpu(total, monkeypatch)


def settings_of(generator, **changes):
    return replace(generator.settings(), **{"steps": 1, **changes})


def calls_of(generator):
    """(network, device, dtype) of what enters the UNet and the decoder."""
    seen = set()
    for name, module in (("unet", generator.unet.conv_in), ("decoder", generator.vae.decoder.conv_in)):
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.add((name, args[0].device, args[0].dtype))
        )
    return seen


def video(generator, settings, count=COUNT, size=(SIDE, SIDE)):
    """Denoise and decode; returns the most frames that were decoded together."""
    pixels, chunks = np.zeros((count, *size, 3), np.uint8), [0]
    latents = generator.denoise(pixels[0], pixels, settings)
    assert (latents.device.type, latents.dtype, len(latents)) == ("cpu", torch.float32, count)
    decoder = generator.vae.decoder
    hook = decoder.register_forward_pre_hook(lambda _, args: chunks.append(len(args[0])))
    assert sum(frame.shape == (*size, 3) for frame in generator.decode(latents, settings)) == count - 1
    hook.remove()
    return max(chunks)


def mimicmotion(tiny):
    return replace(tiny, controlnext=PoseNet(control_channels=32))


@pytest.mark.parametrize("way", WAYS)
def test_videos_are_made_on_the_device(gpu, way):
    with gpu():
        generator = tiny_random().to(DEVICE, torch.bfloat16)
        seen = calls_of(generator)
        video(generator, settings_of(generator, **WAYS[way]))
        assert seen == {("unet", DEVICE, torch.bfloat16), ("decoder", DEVICE, torch.bfloat16)}


@pytest.mark.parametrize("make", [replace, mimicmotion], ids=["controlnext", "mimicmotion"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
def test_either_control_module_works_in_each_precision(gpu, make, dtype):
    with gpu():
        generator = make(tiny_random()).to(DEVICE, dtype)
        seen = calls_of(generator)
        video(generator, settings_of(generator))
        assert seen == {("unet", DEVICE, dtype), ("decoder", DEVICE, dtype)}


def test_a_network_on_another_device_is_found(gpu):
    """So that the tests above can fail."""
    with gpu():
        generator = tiny_random().to(DEVICE, torch.bfloat16)
        generator.bring("unet", "controlnext", "image_encoder", offload=True)
        generator.bring = lambda *names, offload: None
        with pytest.raises(RuntimeError, match="device"):
            video(generator, settings_of(generator))


def test_lora_weights_go_along(gpu, tmp_path):
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    generator = tiny_random()
    rows, columns = generator.unet.get_submodule(name).weight.shape
    state = {f"{name}.lora_A.weight": torch.zeros(2, columns), f"{name}.lora_B.weight": torch.zeros(rows, 2)}
    save_file(state, tmp_path / "lora.safetensors")
    load_lora(generator.unet, tmp_path / "lora.safetensors")
    with gpu():
        generator.to(DEVICE, torch.bfloat16)
        seen = calls_of(generator)
        video(generator, settings_of(generator))
        assert {device for _, device, _ in seen} == {DEVICE}


def scarce(generator, settings):
    """Bytes in which networks that are not at work wait on the CPU."""
    generator.device = DEVICE
    for mib in range(700, 500, -1):
        generator.memory_limit = mib << 20
        try:
            if generator.plan_memory(COUNT, SIDE, SIDE, settings).offload:
                generator.memory_limit = None
                return mib << 20
        except DeviceMemoryError:
            break
    raise AssertionError("no plan offloads")


def test_the_budget_holds_as_long_as_networks_are_there(gpu):
    """What is free beside them changes; a video is decoded in the plan that it was begun in."""
    generator = tiny_random()
    settings = settings_of(generator, decode_chunk=8)
    total = scarce(generator, settings)
    with gpu(total) as device:
        generator.to(DEVICE, torch.float32)
        plan = generator.plan_memory(COUNT, SIDE, SIDE, settings)
        assert plan.offload and plan.budget == total
        generator.bring("unet", "controlnext", offload=True)
        device.total = 80 * GIB
        video(generator, settings)
        assert generator.plan_memory(COUNT, SIDE, SIDE, settings) == plan
        generator.bring(offload=True)
        assert generator.plan_memory(COUNT, SIDE, SIDE, settings).budget > 79 * GIB


def test_the_decoder_alone_works_on_the_device(gpu):
    with gpu():
        tiny = tiny_random()
        decoder = Decoder("tiny", tiny.vae, DEVICE)
        seen = calls_of(tiny)
        assert len(list(decoder.decode(torch.zeros(COUNT, 4, 8, 8), tiny.settings()))) == COUNT - 1
        assert seen == {("decoder", DEVICE, torch.bfloat16)}


def test_a_pipeline_stays_on_its_device_after_a_plan_that_offloads(gpu, tmp_path):
    generator = tiny_random()
    save_generator(generator, tmp_path)
    total = scarce(generator, generator.settings())
    options = {"custom_pipeline": str(tmp_path), "trust_remote_code": True}
    pipe = DiffusionPipeline.from_pretrained(str(tmp_path), **options)
    pipe.set_progress_bar_config(disable=True)
    seen = calls_of(pipe)
    pixels = np.zeros((COUNT, SIDE, SIDE, 3), np.uint8)
    with gpu(total):
        pipe.to(DEVICE)
        for _ in range(2):
            assert (
                len(pipe(pixels[0], pixels, num_inference_steps=1, output_type="np").frames[0]) == COUNT - 1
            )
            assert next(pipe.image_encoder.parameters()).device.type == "cpu", "it was offloaded"
        assert {device for _, device, _ in seen} == {DEVICE}


def test_levers_come_off_in_any_order_where_compiling_fails(gpu, monkeypatch, caplog):
    def broken(forward, **_):
        return partial(fail, forward)

    def fail(forward, *args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    with gpu():
        generator = tiny_random().to(DEVICE, torch.bfloat16)
        generator.compile = True
        for changes in (WAYS["deep cache"], WAYS["published order"], {}):
            video(generator, settings_of(generator, **changes))
        assert "nothing is compiled" in caplog.text
        generator.compile = False
        video(generator, settings_of(generator))
        for network in generator.named_networks().values():
            assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("free", "changes"),
    [(8, {}), (16, {"schedule": "published"})],
    ids=["8", "published"],
)
def test_what_lives_on_the_device_at_full_size_is_what_was_planned(gpu, free, changes):
    """And torch's allocator finds room for it, beside what kernels take."""
    with gpu(int(free * GIB)) as device:
        generator = full_generator("cpu").to(DEVICE, torch.bfloat16)
        settings = settings_of(generator, **changes)
        plan = generator.plan_memory(24, 576, 1024, settings)
        peak = device.peak_of(lambda: video(generator, settings, 24, (1024, 576)))
        assert peak <= plan.peak <= 1.25 * peak
        assert fits(device.events, plan.budget - WORKSPACE)

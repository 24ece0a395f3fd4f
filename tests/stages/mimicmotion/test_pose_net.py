"""MimicMotion's PoseNet: published keys, its range and scale, where its features enter the UNet."""

import numpy as np
import pytest
import torch

from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.svd.files.tiny import tiny_random

SHAPES = {
    "conv_layers.0": (3, 3, 3, 3),
    "conv_layers.2": (16, 3, 4, 4),
    "conv_layers.4": (16, 16, 3, 3),
    "conv_layers.6": (32, 16, 4, 4),
    "conv_layers.8": (32, 32, 3, 3),
    "conv_layers.10": (64, 32, 4, 4),
    "conv_layers.12": (64, 64, 3, 3),
    "conv_layers.14": (128, 64, 3, 3),
    "final_proj": (320, 128, 1, 1),
}


def test_state_dict_is_the_published_one():
    expected = {f"{key}.weight": shape for key, shape in SHAPES.items()}
    expected |= {f"{key}.bias": shape[:1] for key, shape in SHAPES.items()} | {"scale": (1,)}
    assert {key: tuple(value.shape) for key, value in PoseNet().state_dict().items()} == expected


@torch.no_grad()
def test_features_are_an_eighth_of_the_size_and_times_the_scale():
    net = PoseNet(control_channels=8).eval()
    frames = torch.rand(1, 3, 3, 32, 48)
    features = net(frames)
    assert features.shape == (3, 8, 4, 6)
    assert torch.allclose(net(frames, chunk=2), features, atol=1e-6)
    net.scale.fill_(-1.0)
    assert torch.allclose(net(frames), -features / 2, atol=1e-6)


@torch.no_grad()
def test_black_is_minus_one_and_white_is_one():
    net, seen = PoseNet(control_channels=8), []
    net.conv_layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for value in (0.0, 1.0):
        net(torch.full((1, 1, 3, 8, 8), value))
    assert [image.unique().tolist() for image in seen] == [[-1.0], [1.0]]


@torch.no_grad()
def test_features_join_the_output_of_the_first_convolution_of_the_last_frames():
    unet, left = tiny_random().unet, []
    sample, features = torch.randn(2, 3, 8, 8, 8), torch.randn(3, 32, 8, 8)
    inputs = (sample, torch.tensor(0.5), torch.randn(2, 1, 32), torch.zeros(2, 3))
    plain = unet(*inputs).sample
    injection = PoseNet(control_channels=32).attach(unet)
    handle = unet.down_blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: left.append(kwargs["hidden_states"]), with_kwargs=True
    )
    with injection.control(features):
        controlled = unet(*inputs).sample
    handle.remove()
    injection.detach()
    before = unet.conv_in(sample.flatten(0, 1))
    assert torch.equal(left[0][:3], before[:3])
    assert torch.allclose(left[0][3:], before[3:] + features)
    assert torch.equal(controlled[0], plain[0])
    assert not torch.allclose(controlled[1], plain[1])
    assert torch.equal(unet(*inputs).sample, plain)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_control_is_computed_once_for_each_frame_of_a_video(guidance_scale):
    from dataclasses import replace

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = replace(tiny_random(), controlnext=PoseNet(control_channels=32))
    frames = []
    generator.controlnext.final_proj.register_forward_hook(lambda m, a, out: frames.append(len(out)))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    settings = replace(
        generator.settings(),
        steps=3,
        window_size=4,
        window_overlap=1,
        guidance_scale=guidance_scale,
        window_plan="mimicmotion",
    )
    generator.denoise(pixels[0], pixels, settings)
    assert sum(frames) == 6

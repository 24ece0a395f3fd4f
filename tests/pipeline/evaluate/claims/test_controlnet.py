"""The ControlNet that ControlNeXt is compared with: its start, its copy of the UNet, what learns."""

import copy

import pytest
import torch
from torch import nn

from posedance.pipeline.evaluate.claims.controlnet import ControlNet
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.levers.collapse import collapse

FRAMES, SIZE = 2, 8


@pytest.fixture(scope="module")
def unet():
    return tiny_random().unet


@pytest.fixture
def controlnet(unet):
    torch.manual_seed(0)
    return ControlNet(unet, hint_channels=(4, 8, 8, 8)).eval()


def call(unet, *, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, FRAMES, 8, SIZE, SIZE, generator=generator)
    token = torch.randn(2, 1, unet.config.cross_attention_dim, generator=generator)
    ids = torch.tensor([[6.0, 128.0, 0.0]]).expand(2, -1)
    timestep = torch.tensor([0.3, -0.2])
    return unet(sample, timestep, encoder_hidden_states=token, added_time_ids=ids, return_dict=False)[0]


def hints(controlnet) -> torch.Tensor:
    for parameter in controlnet.hint.conv_out.parameters():
        nn.init.normal_(parameter)
    frames = torch.rand(2, FRAMES, 3, 8 * SIZE, 8 * SIZE, generator=torch.Generator().manual_seed(2))
    return controlnet(frames, chunk=3)


def test_at_the_start_it_changes_nothing_and_later_everything(unet, controlnet):
    with torch.no_grad():
        plain = call(unet)
        injection = controlnet.attach(unet)
        hint = hints(controlnet)
        assert hint.shape == (2 * FRAMES, 32, SIZE, SIZE) and hint.abs().max() > 0.1
        with injection.control(hint):
            assert torch.equal(call(unet), plain)
        for conv in controlnet.encoder.zero_convs:
            nn.init.normal_(conv.weight, std=0.1)
        with injection.control(hint):
            assert not torch.allclose(call(unet), plain, atol=1e-3)
        with injection.control(hint, torch.zeros(2 * FRAMES, 1, 1, 1)):
            assert torch.equal(call(unet), plain)
        assert torch.equal(call(unet), plain)
        injection.detach()
        assert not unet._forward_pre_hooks and not unet.mid_block._forward_hooks


def test_the_copy_computes_what_the_unet_computes(unet, controlnet):
    """With identities for zero convolutions and no hint, its results are the UNet's own skips and middle."""
    seen: dict[str, list[torch.Tensor]] = {"skips": [], "middle": []}
    handles = [
        level.register_forward_pre_hook(
            lambda m, a, kw: seen["skips"].insert(0, kw["res_hidden_states_tuple"]), with_kwargs=True
        )
        for level in unet.up_blocks
    ]
    handles.append(unet.mid_block.register_forward_hook(lambda m, a, out: seen["middle"].append(out)))
    results: list[torch.Tensor] = []
    controlnet.encoder.register_forward_hook(lambda m, a, out: results.extend(out))
    for conv in controlnet.encoder.zero_convs:
        nn.init.eye_(conv.weight[:, :, 0, 0])
    collapsed = collapse(controlnet.encoder)
    injection = controlnet.attach(unet)
    with torch.no_grad(), injection.control(torch.zeros(2 * FRAMES, 32, SIZE, SIZE), 0.0):
        call(unet)
    for handle in handles:
        handle.remove()
    injection.detach()
    collapsed.detach()
    expected = [skip for skips in seen["skips"] for skip in skips] + seen["middle"]
    assert len(results) == len(expected) == len(controlnet.encoder.zero_convs)
    for result, truth in zip(results, expected, strict=True):
        torch.testing.assert_close(result, truth, atol=1e-5, rtol=1e-5)


def test_every_zero_convolution_learns_and_the_original_does_not(unet, controlnet):
    before = copy.deepcopy(unet.state_dict())
    unet.requires_grad_(False)
    controlnet.requires_grad_(True)
    injection = controlnet.attach(unet)
    with injection.control(hints(controlnet)):
        call(unet).square().mean().backward()
    injection.detach()
    assert all(conv.weight.grad.abs().max() > 0 for conv in controlnet.encoder.zero_convs)
    assert all(torch.equal(before[name], value) for name, value in unet.state_dict().items())

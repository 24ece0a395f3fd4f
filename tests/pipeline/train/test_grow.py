"""A model taken over to pictures of twice the size starts where the smaller one was."""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from posedance.pipeline.train.grow import deepened_controlnext, turn_latents, turn_towards, widened_unet
from posedance.pipeline.train.model import ControlNeXtConfig, UnetConfig, new_controlnext, new_unet
from posedance.pipeline.train.vae import VaeConfig, VaeTask


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_first_turned_channels_are_the_known_ones_and_the_others_are_uncorrelated() -> None:
    fine = random(6, 5000).double()
    known = random(2, 6, seed=1).double() @ fine + 0.01 * random(2, 5000, seed=2).double()
    turned = turn_towards(fine, known) @ fine
    assert (turned[:2] - known).square().mean() < 2e-4
    moments = turned @ turned.T / turned.shape[1]
    assert moments[:2, 2:].abs().max() < 1e-9
    torch.testing.assert_close(moments.diagonal()[2:].mean(), known.square().mean())


def small_vae(levels: int, channels: int) -> VaeTask:
    data = {"width": 48, "height": 64, "canvas": 64, "frames": 1, "clips": 8, "workers": 0}
    widths = (32, 64, 64, 64)[:levels]
    return VaeTask(VaeConfig.model_validate({"widths": widths, "latent_channels": channels, "data": data}))


def test_turned_latents_decode_to_the_same_pictures_and_tell_those_of_half_the_size() -> None:
    fine, known = small_vae(4, 8).vae.eval(), small_vae(3, 2).vae.eval()
    known.register_to_config(scaling_factor=0.7)
    pictures = torch.cat([random(4, 3, 8, 6).repeat_interleave(8, 2).repeat_interleave(8, 3) / 2])
    with torch.no_grad():
        latents = fine.encode(pictures, return_dict=False)[0].mode()
        before = fine.decode(latents, num_frames=4, return_dict=False)[0]
        share = turn_latents(fine, known, pictures)
        turned = fine.encode(pictures, return_dict=False)[0].mode()
        after = fine.decode(turned, num_frames=4, return_dict=False)[0]
        halves = reduce(pictures, "n c (h p) (w q) -> n c h w", "mean", p=2, q=2)
        wanted = known.encode(halves, return_dict=False)[0].mode()
    assert share > 0.9
    assert (turned - latents).abs().max() > 0.1
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert (turned[:, :2] - wanted).square().mean() < 0.1 * wanted.square().mean()
    assert fine.config["scaling_factor"] == 0.7


def test_a_widened_unet_says_the_same_of_the_channels_that_it_knew_and_nothing_of_others() -> None:
    torch.manual_seed(0)
    unet = new_unet(UnetConfig(widths=(32,), layers=1, head=32), 2, 16).eval()
    grown = widened_unet(unet, 5, 1)
    noisy, reference, other = random(1, 2, 2, 8, 6), random(1, 2, 2, 8, 6, seed=1), random(1, 2, 3, 8, 6)
    time, token, ids = torch.tensor(0.3), random(1, 1, 16, seed=2), torch.zeros(1, 3)
    with torch.no_grad():
        before = unet(torch.cat([noisy, reference], 2), time, token, ids).sample
        after = grown(torch.cat([noisy, other, reference, other], 2), time, token, ids).sample
    torch.testing.assert_close(after[:, :, :2], before)
    assert not after[:, :, 2:].any()


def test_a_deepened_controlnext_is_the_old_one_on_averages_of_its_stem() -> None:
    torch.manual_seed(0)
    config = ControlNeXtConfig(
        stem=8, in_channels=(8,), out_channels=(16,), groups=(1,), stem_groups=1, mid_groups=1, time=16
    )
    module = new_controlnext(config, 16).eval()
    grown = deepened_controlnext(module)
    frames = random(1, 2, 3, 32, 48).sigmoid()
    kernel = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    with torch.no_grad():
        stem = module.embedding(rearrange(frames, "b f c h w -> (b f) c h w"))
        averages = nn.functional.conv2d(stem, kernel.expand(8, 1, 3, 3), stride=2, padding=1, groups=8)
        module.embedding = nn.Identity()
        wanted = module(averages[None], 0.3)
    assert grown.config["in_channels"] == (8, 8)
    torch.testing.assert_close(grown(frames, 0.3), wanted)

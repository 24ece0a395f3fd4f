"""The still half of a video model: the same numbers as the video model without its temporal layers."""

import pytest
import torch

from posedance.stages.image.still import refit_time, still_unet, still_vae
from posedance.stages.models import load_generator
from posedance.stages.svd.levers.temporal import without_temporal

SIGMAS = torch.logspace(-1.5, 1.5, 1000)


@pytest.fixture(scope="module")
def video():
    return load_generator("demo", dtype=torch.float32)


@torch.no_grad()
def test_a_vae_encodes_and_decodes_alike(video):
    still = still_vae(video.vae)
    picture = torch.rand(1, 3, 32, 24) * 2 - 1
    latents = still.encode(picture, return_dict=False)[0].mode()
    assert torch.equal(latents, video.vae.encode(picture, return_dict=False)[0].mode())
    with without_temporal(video.vae):
        decoded = video.vae.decode(latents, num_frames=1, return_dict=False)[0]
    assert torch.equal(still.decode(latents, return_dict=False)[0], decoded)


@torch.no_grad()
@pytest.mark.parametrize("number", [10, 300, 700, 990])
def test_a_unet_predicts_alike_without_a_reference(video, number):
    ids = video.numbers.time_ids()
    still = still_unet(video.unet, ids, SIGMAS)
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 8, 12, 8, generator=generator)
    token = torch.randn(1, 1, 128, generator=generator)
    given = torch.cat([noisy, torch.zeros_like(noisy)], dim=1)[:, None]
    with without_temporal(video.unet):
        wanted = video.unet(given, 0.25 * SIGMAS[number].log(), token, ids, return_dict=False)[0][:, 0]
    made = still(noisy, torch.tensor([number]), token, return_dict=False)[0]
    assert (made - wanted).norm() < 0.05 * wanted.norm()


@torch.no_grad()
def test_a_refitted_time_fits_in_16_bits(video):
    """Without the ridge its weights are so large that bfloat16 makes noise of them."""
    module = video.controlnext
    wanted = module.time_embedding(module.time_proj(0.25 * SIGMAS.log()))
    refit_time(module.time_embedding, module.time_proj, SIGMAS)
    numbers = module.time_proj(torch.arange(1000.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = module.time_embedding(numbers).float()
    assert (found - wanted).norm() < 0.1 * wanted.norm()

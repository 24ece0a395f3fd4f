"""The start of training: a VAE that is a codec, a UNet that returns the reference picture."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from einops import rearrange

from posedance.pipeline.train.start import (
    principal_blocks,
    silence_residuals,
    start_unet_as_reference,
    start_vae_as_linear_codec,
)
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.svd.files.norms import norm_groups, set_norm_groups
from posedance.stages.svd.levers.temporal import is_temporal, silence_temporal, without_temporal


def small_vae(widths=(32, 64, 64), latents=6):
    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        block_out_channels=widths,
        latent_channels=latents,
    )
    set_norm_groups(vae, 1)
    return vae.eval()


def small_unet():
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",),
        block_out_channels=(32,),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2,),
    )
    set_norm_groups(unet, 1)
    return unet.eval()


@pytest.fixture
def pictures():
    """Smooth colour fields with an edge, [2, 3, 32, 32] in -1..1."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(-1, 1)
    images[..., 16:] *= 0.5
    return images


def call(unet, sample, frames):
    batch = len(sample)
    token = torch.linspace(-1, 1, 16).expand(batch, 1, 16)
    return unet(sample, torch.zeros(batch), token, torch.zeros(batch, 3)).sample


@torch.no_grad()
@pytest.mark.parametrize(("widths", "side", "lost"), [((32, 64, 64), 8, 0.1), ((32, 64, 64, 96), 4, 0.35)])
def test_the_vae_starts_as_a_codec(pictures, widths, side, lost):
    vae = small_vae(widths)
    start_vae_as_linear_codec(vae, pictures)
    latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == (2, 6, side, side)
    components, deviations, mean = principal_blocks(pictures, 32 // side, 6)
    blocks = rearrange(pictures, "n c (h p) (w q) -> n h w (c p q)", h=side, w=side)
    wanted = (blocks - mean) @ (components * (deviations * deviations[0]).rsqrt()[:, None]).T
    assert torch.allclose(latents, wanted.permute(0, 3, 1, 2), atol=0.1)
    decoded = vae.decode(latents, num_frames=2).sample
    assert float((decoded - pictures).square().mean()) < lost * float(pictures.square().mean())


@torch.no_grad()
def test_the_start_tells_pictures_apart_by_their_mean_colour(pictures):
    """What 32 groups of one channel lose: two plain pictures of different brightness."""
    vae = small_vae()
    start_vae_as_linear_codec(vae, pictures)
    plain = torch.stack([torch.full((3, 32, 32), level) for level in (-0.6, 0.5)])
    decoded = vae.decode(vae.encode(plain).latent_dist.mode(), num_frames=2).sample
    assert torch.allclose(decoded.mean((1, 2, 3)), torch.tensor([-0.6, 0.5]), atol=0.15)


def test_a_codec_that_does_not_fit_is_refused(pictures):
    with pytest.raises(ConfigError, match="three levels"):
        start_vae_as_linear_codec(small_vae(widths=(32, 64)), pictures)


def test_principal_blocks_are_orthonormal_and_ordered(pictures):
    components, deviations, mean = principal_blocks(pictures, 4, 5)
    assert torch.allclose(components @ components.T, torch.eye(5), atol=1e-4)
    assert (deviations[:-1] >= deviations[1:]).all()
    assert mean.shape == (48,)


@torch.no_grad()
def test_the_unet_starts_by_returning_the_reference():
    unet = small_unet()
    start_unet_as_reference(unet, 4, scale=1.0)
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 2, 8, 8, 8, generator=generator)
    v = call(unet, sample, 2)
    reference = sample[:, :, 4:]
    correlation = torch.corrcoef(torch.stack([v.flatten(), reference.flatten()]))[0, 1]
    assert correlation < -0.95


@torch.no_grad()
def test_silent_temporal_layers_change_nothing():
    unet = small_unet()
    sample = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    loud = call(unet, sample, 3)
    silence_temporal(unet)
    silent = call(unet, sample, 3)
    with without_temporal(unet):
        skipped = call(unet, sample, 3)
    assert torch.allclose(silent, skipped, atol=1e-5)
    assert not torch.allclose(loud, silent, atol=1e-3)


@torch.no_grad()
def test_without_temporal_sees_each_frame_alone_and_ends():
    unet = small_unet()
    sample = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    before = call(unet, sample, 3)
    with without_temporal(unet):
        together = call(unet, sample, 3)
        alone = torch.cat([call(unet, sample[:, i : i + 1], 1) for i in range(3)], dim=1)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(call(unet, sample, 3), before)


def test_temporal_parameters_are_known_by_name():
    names = [name for name, _ in small_unet().named_parameters() if is_temporal(name)]
    assert any("temporal_res_block" in name for name in names)
    assert any("temporal_transformer_blocks" in name for name in names)
    assert not any("spatial_res_block" in name for name in names)


def test_silenced_residuals_leave_the_shortcut():
    unet = small_unet()
    silence_residuals(unet)
    block = unet.mid_block.resnets[0].spatial_res_block
    hidden = torch.randn(1, 32, 4, 4)
    assert torch.equal(block(hidden, torch.randn(1, 128)), hidden)


def test_group_counts_are_set_and_told():
    unet = small_unet()
    assert norm_groups(unet) == 1
    assert set_norm_groups(unet, 4) > 5
    assert norm_groups(unet) == 4
    with pytest.raises(WeightsError, match="groups do not divide"):
        set_norm_groups(unet, 5)

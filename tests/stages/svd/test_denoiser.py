"""The denoiser in training: preconditioning, loss, gradients, guidance, dropout."""

import pytest
import torch

from posedance.stages.svd.denoiser import (
    NO_DROPOUT,
    Conditioning,
    Denoiser,
    Dropout,
    denoised,
    drop,
    unconditional,
)
from posedance.stages.svd.files.tiny import TOKEN_WIDTH, tiny_random
from posedance.stages.svd.guidance import guide
from posedance.stages.svd.levers.checkpointing import checkpoint_blocks, checkpoint_whole
from posedance.stages.svd.noise import CosineInterpolated


@pytest.fixture
def denoiser():
    tiny = tiny_random()
    for network in (tiny.unet, tiny.controlnext):
        network.train().requires_grad_(True)
    return Denoiser(tiny.unet, tiny.controlnext, tiny.controlnext.attach(tiny.unet))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(2, 3, 4, 8, 8, generator=generator)
    frames = torch.rand(2, 3, 3, 64, 64, generator=generator)
    conditioning = Conditioning(
        torch.randn(2, 1, TOKEN_WIDTH, generator=generator),
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.tensor([[6, 128, 0.02]]).repeat(2, 1),
    )
    return latents, frames, conditioning


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_preconditioning_recovers_the_sample_from_its_true_v():
    x0, noise = torch.randn(2, 1, 2, 4, 4, 4, generator=seeded())
    for sigma in torch.tensor([0.002, 0.5, 1.0, 700.0]):
        # v = (noise - sigma x0) / sqrt(sigma^2 + 1), the v-prediction target of the scaled sample
        v = (noise - sigma * x0) / (sigma**2 + 1).sqrt()
        assert torch.allclose(denoised(x0 + sigma * noise, v, sigma), x0, atol=2e-4)


def test_loss_is_the_error_of_what_sampling_predicts(denoiser, batch):
    latents, frames, conditioning = batch
    sigma = torch.tensor([0.7, 3.0])
    with torch.no_grad():
        loss = denoiser.loss(latents, frames, conditioning, seeded(9), sigma=sigma)
        generator = seeded(9)
        torch.rand(2, generator=generator)  # the dropout draw comes first
        noisy = latents + sigma.reshape(2, 1, 1, 1, 1) * torch.randn(latents.shape, generator=generator)
        for i in range(2):
            one = Conditioning(
                conditioning.token[i : i + 1],
                conditioning.image_latents[i : i + 1],
                conditioning.time_ids[:1],
            )
            control = denoiser.controlnext(frames[i : i + 1], 0.25 * sigma[i].log())
            v = denoiser(noisy[i : i + 1], sigma[i : i + 1], one, control)
            error = denoised(noisy[i : i + 1], v, sigma[i]) - latents[i]
            expected = (1 + sigma[i] ** 2) / sigma[i] ** 2 * error.square().mean()
            assert loss.per_sample[i].item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss.value.item() == pytest.approx(loss.per_sample.mean().item(), rel=1e-6)


def test_gradients_flow_through_control_normalization_and_unet(denoiser, batch):
    latents, frames, conditioning = batch
    denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2)).value.backward()
    for name, module in (("controlnext", denoiser.controlnext), ("unet", denoiser.unet)):
        # keys and queries of attention over one token have no influence on the result
        silent = [
            key
            for key, parameter in module.named_parameters()
            if (parameter.grad is None or not parameter.grad.abs().any())
            and not ("attn2.to_q" in key or "attn2.to_k" in key or "norm2" in key)
        ]
        assert not silent, (name, silent)


def test_gradient_checkpointing_gives_the_same_gradients(denoiser, batch):
    latents, frames, conditioning = batch

    def gradients():
        denoiser.unet.zero_grad()
        denoiser.controlnext.zero_grad()
        denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2)).value.backward()
        modules = (denoiser.unet, denoiser.controlnext)
        return [p.grad.clone() for m in modules for p in m.parameters() if p.grad is not None]

    plain = gradients()
    with checkpoint_blocks(denoiser.unet), checkpoint_whole(denoiser.controlnext):
        for kept, again in zip(plain, gradients(), strict=True):
            assert torch.allclose(kept, again, atol=1e-5)


def test_guidance_reaches_from_unconditional_to_conditional(denoiser, batch):
    latents, frames, conditioning = batch
    one = Conditioning(conditioning.token[:1], conditioning.image_latents[:1], conditioning.time_ids[:1])
    sigma = torch.tensor([2.0])
    with torch.no_grad():
        control = denoiser.controlnext(frames[:1], 0.25 * sigma[0].log())
        conditional = denoiser(latents[:1], sigma, one, control)
        nothing = denoiser(latents[:1], sigma, unconditional(one), None)
    assert not torch.allclose(conditional, nothing, atol=1e-3)
    guided = guide(nothing, conditional, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.allclose(guided[:, 0], nothing[:, 0], atol=1e-5)
    assert torch.allclose(guided[:, 1], conditional[:, 1], atol=1e-5)
    assert torch.allclose(guided[:, 2], 2 * conditional[:, 2] - nothing[:, 2], atol=1e-5)


def test_weight_map_counts_places(denoiser, batch):
    latents, frames, conditioning = batch
    weight = torch.zeros(2, 3, 1, 8, 8)
    zero = denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2), weight=weight)
    plain = denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2))
    tripled = denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2), weight=weight + 3)
    assert zero.value.item() == 0
    assert tripled.value.item() == pytest.approx(3 * plain.value.item(), rel=1e-6)


def test_same_generator_same_loss(denoiser, batch):
    latents, frames, conditioning = batch
    with torch.no_grad():
        options = {"distribution": CosineInterpolated(), "dropout": Dropout()}
        first = denoiser.loss(latents, frames, conditioning, seeded(4), **options)
        again = denoiser.loss(latents, frames, conditioning, seeded(4), **options)
    assert torch.equal(first.per_sample, again.per_sample)
    assert torch.equal(first.sigma, again.sigma)


def test_published_dropout_shares():
    count = 20000
    ones = Conditioning(torch.ones(count, 1, 1), torch.ones(count, 1, 1, 1), torch.ones(count, 3))
    dropped, control = drop(ones, Dropout(), seeded())
    token, image = dropped.token.flatten() == 0, dropped.image_latents.flatten() == 0
    assert token.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert image.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (token & image).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert control.all()
    untouched, _ = drop(ones, NO_DROPOUT, seeded())
    assert untouched.token.all() and untouched.image_latents.all()


def test_dropped_control_equals_no_control(denoiser, batch):
    latents, frames, conditioning = batch
    always = Dropout((0.0, 0.0), (0.0, 0.0), control=(0.0, 1.0))
    with torch.no_grad():
        dropped = denoiser.loss(latents, frames, conditioning, seeded(), sigma=torch.ones(2), dropout=always)
        none = denoiser.loss(latents, None, conditioning, seeded(), sigma=torch.ones(2))
    assert torch.allclose(dropped.per_sample, none.per_sample, rtol=1e-6)

"""What the UNet is given: noise by seed and frame, the picture's latents and token, micro-conditioning."""

import numpy as np
import pytest
import torch

from posedance.stages.models import load_generator
from posedance.stages.svd.conditioning import (
    MicroConditioning,
    clip_pixels,
    condition,
    image_latents,
    image_noise,
    image_token,
    initial_noise,
    published_noise,
    step_noise,
    vae_input,
)
from posedance.stages.svd.files.tiny import tiny_random


@pytest.fixture(scope="module")
def generator():
    return load_generator("tiny-random")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


def test_noise_of_a_frame_depends_on_seed_and_frame_alone():
    whole = initial_noise(range(10), (4, 3, 2), seed=5)
    assert torch.equal(initial_noise(range(4, 7), (4, 3, 2), seed=5), whole[4:7])
    assert not torch.equal(initial_noise(range(10), (4, 3, 2), seed=6), whole)
    assert len({tuple(frame.flatten().tolist()) for frame in whole}) == 10


def test_noise_of_the_start_and_of_all_steps_comes_from_streams_apart():
    frames, shape = range(6), (1, 1, 1)
    draws = [image_noise(1, 1, seed=0).flatten()[0].item(), *initial_noise(frames, shape, seed=0).flatten()]
    for step in range(6):
        draws += step_noise(step, frames, shape, seed=0).flatten()
    assert len({float(draw) for draw in draws}) == len(draws)


def test_noise_is_standard_normal_and_independent_of_the_image_noise():
    noise = initial_noise(range(50), (4, 16, 16), seed=0)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    first = initial_noise(range(1), (3, 16, 16), seed=0)
    assert not torch.allclose(image_noise(16, 16, seed=0), first)


def test_published_noise_draws_the_image_first():
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(1, 3, 16, 8, generator=generator)
    latents = torch.randn(1, 5, 4, 2, 1, generator=generator)
    ours = published_noise(5, (4, 2, 1), (16, 8), seed=7)
    assert torch.equal(ours[0], image)
    assert torch.equal(ours[1], latents[0])


def test_clip_pixels_keep_a_flat_colour():
    flat = np.full((90, 300, 3), (255, 0, 128), np.uint8)
    pixels = clip_pixels(flat, 32)
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels.std(dim=(2, 3)).max() < 1e-4


def test_read_only_and_reversed_arrays_are_taken(image):
    image.flags.writeable = False
    assert torch.equal(clip_pixels(image[..., ::-1]), clip_pixels(image[..., ::-1].copy()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_picture_is_encoded_in_float32_whatever_the_networks_are_in(image, dtype):
    exact, halves = tiny_random(), tiny_random().to("cpu", dtype)
    pixels = vae_input(image, 48, 32, torch.zeros(1, 3, 32, 48), 0.0)
    seen = []
    for module in (halves.vae.encoder.conv_in, halves.image_encoder.vision_model.encoder):
        module.register_forward_hook(
            lambda module, args, output: seen.append(next(module.parameters()).dtype)
        )
    with torch.no_grad():
        for made, right in (
            (image_latents(halves.vae, pixels), image_latents(exact.vae, pixels)),
            (image_token(halves.image_encoder, image), image_token(exact.image_encoder, image)),
        ):
            assert made.dtype == torch.float32
            assert (made - right).norm() < 0.002 * right.norm()
    assert seen == [torch.float32] * 2
    assert next(halves.vae.encoder.parameters()).dtype == torch.float16
    assert next(halves.vae.decoder.parameters()).dtype == next(halves.unet.parameters()).dtype == dtype


def test_conditioning_shapes_and_numbers(generator, image):
    with torch.no_grad():
        conditioning = condition(
            image, torch.zeros(1, 3, 32, 48), generator.image_encoder, generator.vae, MicroConditioning()
        )
    assert conditioning.token.shape == (1, 1, 32)
    assert conditioning.image_latents.shape == (1, 4, 4, 6)
    assert conditioning.time_ids.tolist() == [[6, 128, pytest.approx(0.02)]]


def test_latents_are_the_unscaled_mode(generator, image):
    noise = torch.zeros(1, 3, 32, 48)
    with torch.no_grad():
        conditioning = condition(image, noise, generator.image_encoder, generator.vae, MicroConditioning())
        mode = generator.vae.encode(vae_input(image, 48, 32, noise, 0.02)).latent_dist.mode()
    assert torch.equal(conditioning.image_latents, mode)

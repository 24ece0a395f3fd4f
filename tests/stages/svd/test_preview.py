"""Previews from latents: a linear code is found, and looks like the decoded pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.stages.models import load_generator, why_unusable
from posedance.stages.pixels import to_signed
from posedance.stages.svd.conditioning import image_latents
from posedance.stages.svd.preview import fit_colours, preview


class LinearVae:
    """Encodes blocks of 4 x 4 pixels by a matrix, as a real VAE nearly does."""

    device = torch.device("cpu")
    encoder = quant_conv = torch.nn.Linear(1, 1)
    mixing = torch.tensor([[0.9, 0.1, 0.4], [0.2, -1.0, 0.3], [0.5, 0.5, -0.7], [0.1, 0.2, 0.3]])

    def encode(self, pixels, return_dict):
        latents = torch.einsum("kc,nchw->nkhw", self.mixing, F.avg_pool2d(pixels, 4)) + 0.5
        return (SimpleNamespace(mode=lambda: latents),)


def test_a_linear_code_is_found_whatever_the_picture_lacks():
    """The picture is all blue and grey, and the map knows red: by exchanged channels and negatives."""
    blue = np.zeros((32, 24, 3), np.uint8)
    blue[8:, :, 2], blue[:, 12:] = 200, 90
    vae = LinearVae()
    colours = fit_colours(vae, blue, downscale=4)
    other = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    latents = image_latents(vae, to_signed(other)[None]) * 0.2
    expected = other.reshape(4, 4, 4, 4, 3).mean((1, 3))
    assert np.abs(preview(latents, colours, 0.2)[0] - expected).max() <= 1


def test_latents_of_the_demo_model_look_like_their_pictures():
    if reason := why_unusable("demo"):
        pytest.skip(reason)
    generator = load_generator("demo")
    fitted = render(make_character(1), reference_pose(1), 0, 72, 128).image
    other = render(make_character(2), make_motion(3, 15), 7, 72, 128).image
    colours = generator.colours(fitted)
    scaling = generator.vae.config["scaling_factor"]
    (shown,) = preview(image_latents(generator.vae, to_signed(other)[None]) * scaling, colours, scaling)
    expected = other.reshape(32, 4, 18, 4, 3).mean((1, 3))
    error, spread = np.abs(shown - expected).mean(), np.abs(expected - expected.mean((0, 1))).mean()
    assert error < spread / 3

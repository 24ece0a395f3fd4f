"""Noise levels of training: their bounds, median and spread, and that draws repeat."""

import math

import pytest
import torch

from posedance.stages.svd.noise import CosineInterpolated, LogNormal


@pytest.mark.parametrize("kind", [LogNormal, CosineInterpolated])
def test_draws_are_positive_bounded_and_repeatable(kind):
    distribution = kind(low=0.01, high=50.0)
    first = distribution.sample(2000, torch.Generator().manual_seed(3))
    again = distribution.sample(2000, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    assert first.min() >= 0.01 * (1 - 1e-5) and first.max() <= 50 * (1 + 1e-5)


def test_log_normal_has_its_median_and_spread():
    logs = LogNormal().sample(20000, torch.Generator().manual_seed(0)).log()
    assert logs.median().item() == pytest.approx(0.7, abs=0.05)
    assert logs.std().item() == pytest.approx(1.6, abs=0.05)


def test_cosine_rises_from_low_to_high():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    sigma = CosineInterpolated().sigma_at(u)
    assert sigma[0].item() == pytest.approx(0.002, rel=1e-6)
    assert sigma[-1].item() == pytest.approx(700.0, rel=1e-6)
    assert (sigma.diff() > 0).all()


def test_cosine_without_shift_is_the_plain_cosine_schedule():
    # With both noise sizes equal to the image size: sigma = sigma_data * tan(angle), angle linear in u.
    u = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    sigma = CosineInterpolated(noise_size_low=64, noise_size_high=64).sigma_at(u)
    start, stop = math.atan(0.002 / 0.5), math.atan(700 / 0.5)
    assert torch.allclose(sigma, 0.5 * (start + u * (stop - start)).tan(), rtol=1e-6)

"""Noise schedules, against recorded tables and trajectories and the papers' own levels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from posedance.stages.errors import ConfigError
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.schedule import (
    SVD_SCHEDULER,
    aligned_sigmas,
    consistency_sigmas,
    consistency_step,
    euler_step,
    initial_deviation,
    sampling_sigmas,
)


def test_golden_tables(golden, read_json):
    meta = read_json(golden / "scheduler/meta.json")
    tables = np.load(golden / "scheduler/tables.npz")
    assert meta["config"] == SVD_SCHEDULER
    for steps in meta["steps"]:
        sigmas = sampling_sigmas(meta["config"], steps)
        np.testing.assert_allclose(sigmas, tables[f"sigmas_{steps}"], rtol=1e-6)
        np.testing.assert_allclose(
            0.25 * sigmas[:-1].log(), tables[f"timesteps_{steps}"], rtol=1e-6, atol=1e-6
        )
        deviation = initial_deviation(meta["config"], sigmas)
        np.testing.assert_allclose(deviation, tables[f"init_noise_sigma_{steps}"], rtol=1e-6)


def test_golden_trajectories(golden, read_json):
    meta = read_json(golden / "scheduler/meta.json")
    tables = np.load(golden / "scheduler/tables.npz")

    def draw(seed):
        return torch.from_numpy(
            np.random.RandomState(seed).standard_normal([1, 2, 4, 4, 4]).astype(np.float32)
        )

    for steps in meta["trajectory_steps"]:
        sigmas = sampling_sigmas(meta["config"], steps)
        trajectory = [draw(5000 + steps) * initial_deviation(meta["config"], sigmas)]
        for i in range(steps):
            v = draw(6000 + 100 * steps + i)
            trajectory.append(euler_step(trajectory[-1], v, sigmas[i], sigmas[i + 1]))
        np.testing.assert_allclose(
            torch.stack(trajectory), tables[f"trajectory_{steps}"], rtol=1e-6, atol=1e-5
        )


def test_align_your_steps_levels_and_between_them():
    ten = aligned_sigmas(SVD_SCHEDULER, 10)
    assert ten.tolist() == pytest.approx(
        [700, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0]
    )
    nineteen = aligned_sigmas(SVD_SCHEDULER, 19)
    assert nineteen[::2][:10].tolist() == pytest.approx(ten[:10].tolist())
    assert nineteen[1].item() == pytest.approx((700 * 54.5) ** 0.5, rel=1e-5)
    for steps in (1, 2, 7, 25):
        sigmas = aligned_sigmas(SVD_SCHEDULER, steps)
        assert len(sigmas) == steps + 1 and sigmas[0] == 700 and sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()


def test_align_your_steps_needs_the_noise_levels_of_svd():
    with pytest.raises(ConfigError, match="this model's at 80"):
        aligned_sigmas(SVD_SCHEDULER | {"sigma_max": 80.0}, 10)


def test_align_your_steps_reaches_the_sampler():
    generator = tiny_random()
    settings = replace(generator.settings(), steps=10, align_your_steps=True)
    assert torch.equal(generator.sigmas(settings), aligned_sigmas(SVD_SCHEDULER, 10))


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 8, 40])
def test_consistency_levels_are_those_of_diffusers_consistency_models(steps):
    from diffusers import CMStochasticIterativeScheduler

    theirs = CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=700.0)
    theirs.set_timesteps(steps)
    ours = consistency_sigmas(SVD_SCHEDULER, steps)
    np.testing.assert_allclose(ours[:-1], theirs.sigmas[:-1], rtol=1e-5)
    assert ours[-1] == 0 and ours[0].item() == pytest.approx(700)


@pytest.mark.parametrize("steps", [0, 41])
def test_consistency_sampling_has_40_levels(steps):
    with pytest.raises(ConfigError, match=f"{steps} steps: consistency sampling has 40 noise levels"):
        consistency_sigmas(SVD_SCHEDULER, steps)


def test_a_consistency_step_is_the_boundary_condition_and_fresh_noise():
    x, v, z = torch.randn(3, 2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    s, after = torch.tensor(3.0), torch.tensor(0.5)
    expected = x / (s**2 + 1) - v * s / (s**2 + 1) ** 0.5 + after * z
    assert torch.allclose(consistency_step(x, v, s, after, z), expected)

import numpy as np
import torch

from posedance.stages.svd.schedule import SVD_SCHEDULER, euler_step, initial_deviation, sampling_sigmas


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

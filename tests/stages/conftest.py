"""What the golden tests of the networks share: weights made from their names."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Fill = Callable[[nn.Module, int, str, dict[str, Any]], nn.Module]


def recipe_tensor(seed: int, component: str, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of the recorded weights; the recipe is in the golden data's README."""
    state = np.random.RandomState(zlib.crc32(f"{seed}/{component}/{key}".encode()))
    values = state.standard_normal(shape)
    if len(shape) >= 2:
        values = 1.5 * values / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = 1 + 0.1 * values
    elif not key.endswith("mix_factor"):
        values = 0.1 * values
    return torch.from_numpy(np.asarray(values, np.float32))


@pytest.fixture(scope="session")
def fill() -> Fill:
    """Fills a module by the recipe, checks the recorded sums, returns it in eval mode without gradients."""

    def fill_module(module: nn.Module, seed: int, component: str, sums: dict[str, Any]) -> nn.Module:
        floats = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
        made = {key: recipe_tensor(seed, component, key, tuple(value.shape)) for key, value in floats.items()}
        weights = [value.double() for value in made.values()]
        assert len(weights) == sums["num_tensors"]
        assert sum(w.numel() for w in weights) == sums["num_params"]
        assert sum(w.sum().item() for w in weights) == pytest.approx(sums["sum"], abs=1e-2)
        assert sum(w.abs().sum().item() for w in weights) == pytest.approx(sums["abs_sum"], rel=1e-6)
        assert sum(w.square().sum().item() for w in weights) == pytest.approx(sums["sq_sum"], rel=1e-6)
        module.load_state_dict(module.state_dict() | made, strict=True)
        return module.eval().requires_grad_(False)

    return fill_module


@pytest.fixture(scope="session")
def read_json() -> Callable[[Path], Any]:
    return lambda path: json.loads(path.read_text())

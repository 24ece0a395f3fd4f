"""What the golden tests of the networks share: weights made from their names."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import recipe_tensor
from safetensors.torch import load_file, save_file
from torch import nn

Fill = Callable[[nn.Module, int, str, dict[str, Any]], nn.Module]


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
def recipe() -> Callable[..., torch.Tensor]:
    """`recipe_tensor`."""
    return recipe_tensor


@pytest.fixture(scope="session")
def read_json() -> Callable[[Path], Any]:
    return lambda path: json.loads(path.read_text())


KIJAI = "controlnext-svd_v2-{}.safetensors"
"""Names of the files in Kijai/ControlNeXt-SVD-V2-Comfy."""


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """The published files, small: same folders and file names, other widths.

    The UNet takes the 320 channels of the real ControlNeXt. `svd-fp16` holds only the fp16 variant.
    """
    from posedance.stages.controlnext.model import ControlNeXt
    from posedance.stages.models import load_generator, save_generator
    from posedance.stages.svd.files.names import original_name

    folder = tmp_path_factory.mktemp("published")
    tiny = load_generator("tiny-random")
    config = dict(tiny.unet.config) | {"block_out_channels": (320, 64), "num_attention_heads": (5, 2)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet, control = type(tiny.unet).from_config(config), ControlNeXt()
    save_generator(replace(tiny, unet=unet), folder / "svd")
    for name in ("posedance.json", "model_index.json", "pipeline.py"):
        (folder / "svd" / name).unlink()
    shutil.rmtree(folder / "svd/controlnext")
    shutil.copytree(folder / "svd", folder / "svd-fp16")
    for path in (folder / "svd-fp16").rglob("*.safetensors"):
        save_file(half(load_file(path)), path.with_suffix(".fp16.safetensors"))
        path.unlink()
    state = unet.state_dict()
    torch.save(control.state_dict(), folder / "controlnet.bin")
    torch.save(state, folder / "unet.bin")
    original = {original_name(key, list(state), 1): value for key, value in state.items()}
    save_file(half(control.state_dict()), folder / KIJAI.format("controlnet-fp16"))
    save_file(half(state), folder / KIJAI.format("unet-fp16"))
    save_file(half(original), folder / KIJAI.format("unet-fp16_converted"))
    return folder


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.half().contiguous() for key, value in state.items()}

"""The networks that a training starts from: loaded strictly, or refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from posedance.pipeline.train.model import ModelConfig, load_parts
from posedance.pipeline.train.vae import VaeConfig, VaeTask
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.models import save_generator
from posedance.stages.svd.files.norms import norm_groups, set_norm_groups
from posedance.stages.svd.files.tiny import tiny_random


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny = tiny_random()
    set_norm_groups(tiny.vae, 8)
    save_generator(tiny, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_folder_comes_back_with_its_groups(folder: Path) -> None:
    parts, tiny = load_parts(ModelConfig(base=folder)), tiny_random()
    for name in ("unet", "controlnext", "vae", "image_encoder"):
        loaded, saved = getattr(parts, name), getattr(tiny, name).state_dict()
        assert all(torch.equal(value, saved[key]) for key, value in loaded.state_dict().items())
        assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert (norm_groups(parts.vae), norm_groups(parts.unet)) == (8, 32)


@pytest.mark.parametrize("name", ["unet", "controlnext", "vae", "image_encoder"])
@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(folder: Path, name: str, fault: str) -> None:
    (path,) = (folder / name).glob("*.safetensors")
    state = load_file(path)
    if fault == "missing":
        del state[next(iter(state))]
    else:
        state["extra"] = torch.zeros(2)
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"does not fit .*1 {fault}"):
        load_parts(ModelConfig(base=folder))


def test_a_decoder_learns_on_with_the_groups_that_its_folder_records(folder: Path) -> None:
    learned = VaeTask(VaeConfig(decoder_of=folder / "vae", norm_groups=8)).trainable()
    assert learned and all(name.startswith(("vae.decoder.", "vae.post_quant")) for name, _ in learned)
    with pytest.raises(ConfigError, match="have 8 groups and norm_groups is 1"):
        VaeTask(VaeConfig(decoder_of=folder / "vae"))

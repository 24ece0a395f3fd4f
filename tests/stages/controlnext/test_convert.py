"""Published files at small size, converted; the UNet takes the 320 channels of the real ControlNeXt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posedance.stages.controlnext.convert import convert
from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.generate import load_generator, save_generator
from posedance.stages.svd.names import original_name


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    tiny = load_generator("tiny-random")
    config = dict(tiny.unet.config) | {"block_out_channels": (320, 64), "num_attention_heads": (5, 2)}
    torch.manual_seed(1)
    unet = type(tiny.unet).from_config(config)
    save_generator(replace(tiny, unet=unet), folder / "svd")
    (folder / "svd/posedance.json").unlink()
    torch.save(ControlNeXt().state_dict(), folder / "controlnet.bin")
    state = unet.state_dict()
    save_file({key: value.half() for key, value in state.items()}, folder / "unet-fp16.safetensors")
    original = {original_name(key, list(state), 1): value.half() for key, value in state.items()}
    save_file(original, folder / "unet-fp16_converted.safetensors")
    return folder


def test_folder_makes_the_video_that_the_files_make(published, tmp_path):
    files = {
        "base": str(published / "svd"),
        "controlnext": published / "controlnet.bin",
        "unet": published / "unet-fp16.safetensors",
    }
    convert(**files, folder=tmp_path / "model", dtype="fp32")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    latents = []
    for generator in (load_generator("svd-xt-1.1", **files), load_generator(str(tmp_path / "model"))):
        settings = replace(generator.settings(), steps=1)
        latents.append(generator.denoise(pixels[0], pixels[1:], settings))
    assert torch.equal(*latents)
    assert "Apache-2.0" in (tmp_path / "model/README.md").read_text()


def test_original_names_give_the_same_unet(published, tmp_path):
    unets = []
    for name in ("unet-fp16.safetensors", "unet-fp16_converted.safetensors"):
        sources = convert(
            str(published / "svd"), published / "controlnet.bin", published / name, tmp_path / name
        )
        assert [source.renamed for source in sources] == [False, "converted" in name]
        assert sources[0].parameters == 3_526_400
        unets.append(load_generator(str(tmp_path / name)).unet.state_dict())
    assert all(torch.equal(value, unets[1][key]) for key, value in unets[0].items())


def test_version_1_is_refused_by_name(published, tmp_path):
    torch.save(ControlNeXt(control_channels=1280).state_dict(), tmp_path / "controlnet.bin")
    unet = published / "unet-fp16.safetensors"
    with pytest.raises(WeightsError, match="ControlNeXt-SVD v1"):
        convert(str(published / "svd"), tmp_path / "controlnet.bin", unet, tmp_path / "model")


def test_nothing_is_overwritten(published, tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(ConfigError, match="not empty"):
        convert("svd", published / "controlnet.bin", published / "unet.bin", tmp_path)

"""The published files, at small size: same folders and file names, other widths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import WeightsError
from posedance.stages.generate import load_generator, save_generator


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An SVD folder, controlnet.bin and unet.bin; the UNet takes the 320 channels of the real ControlNeXt."""
    folder = tmp_path_factory.mktemp("published")
    tiny = load_generator("tiny-random")
    config = dict(tiny.unet.config) | {"block_out_channels": (320, 64), "num_attention_heads": (5, 2)}
    torch.manual_seed(1)
    unet = type(tiny.unet).from_config(config)
    save_generator(replace(tiny, unet=unet), folder / "svd")
    (folder / "svd/posedance.json").unlink()
    torch.save(ControlNeXt().state_dict(), folder / "controlnet.bin")
    torch.save(unet.state_dict(), folder / "unet.bin")
    half = {key: value.half() for key, value in unet.state_dict().items()}
    save_file(half, folder / "unet-fp16.safetensors")
    return folder


def load(published, unet="unet.bin", controlnext="controlnet.bin"):
    return load_generator(
        "svd-xt-1.1", base=published / "svd", controlnext=published / controlnext, unet=published / unet
    )


def test_published_files_make_a_video(published):
    generator = load(published)
    assert generator.defaults.window_size == 24
    settings = replace(generator.settings(), steps=1)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    latents = generator.denoise(pixels[0], pixels[1:], settings)
    assert len(list(generator.decode(latents, settings))) == 2


def test_fp16_files_are_rounded_and_nothing_else(published):
    full, half = load(published).unet, load(published, unet="unet-fp16.safetensors").unet
    assert half.dtype == torch.float32
    for a, b in zip(full.parameters(), half.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_exchanged_files_are_refused_with_their_keys(published):
    with pytest.raises(WeightsError, match=r"controlnet.bin does not fit UNet.* missing: .* unexpected: "):
        load(published, unet="controlnet.bin")


def test_incomplete_base_names_the_file(published, tmp_path):
    with pytest.raises(WeightsError, match=r"config.json is missing"):
        load_generator(
            "svd-xt-1.1",
            base=tmp_path,
            controlnext=published / "controlnet.bin",
            unet=published / "unet.bin",
        )

"""MimicMotion's weight file: every key is accounted for, wrong files are refused, folders come back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posedance.stages.controlnext.convert import convert
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.mimicmotion.load import load_mimicmotion
from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.models import load_generator, save_generator
from posedance.stages.svd.files.tiny import tiny_random


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_generator(tiny_random(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def state():
    """What the published file holds, small: another UNet than the base's."""
    unet = tiny_random(seed=5).unet.state_dict()
    pose_net = PoseNet(control_channels=32).state_dict()
    return {f"unet.{key}": value for key, value in unet.items()} | {
        f"pose_net.{key}": value for key, value in pose_net.items()
    }


def load(base: str, state: dict, path: Path):
    torch.save(state, path)
    return load_mimicmotion(base, path)


def test_both_parts_come_from_the_file(base, state, tmp_path):
    generator = load(base, state, tmp_path / "MimicMotion_1-1.pth")
    for part, module in (("unet", generator.unet), ("pose_net", generator.controlnext)):
        for key, value in module.state_dict().items():
            assert torch.equal(value, state[f"{part}.{key}"])
    assert generator.numbers.time_ids().tolist() == [[6, 127, 0]]


@pytest.mark.parametrize(
    ("name", "size"), [("MimicMotion_1-1.pth", 72), ("MimicMotion_1.pth", 16), ("MimicMotion.pth", 16)]
)
def test_the_window_comes_with_the_checkpoint(base, state, tmp_path, name, size):
    settings = load(base, state, tmp_path / name).settings()
    assert (settings.window_size, settings.window_overlap, settings.window_plan) == (size, 6, "mimicmotion")
    assert (settings.steps, settings.guidance_scale, settings.decode_chunk) == (25, 2.0, 8)


def test_a_file_of_another_name_asks_for_the_window(base, state, tmp_path):
    generator = load(base, state, tmp_path / "mimic-ft.pth")
    with pytest.raises(ConfigError, match=r"mimicmotion does not tell .*--window\.size"):
        generator.settings()
    assert generator.settings(16).window_size == 16
    save_generator(generator, tmp_path / "model")
    assert load_generator(str(tmp_path / "model")).defaults.window_size is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet.conv_in.bias": None}, "1 missing: conv_in.bias"),
        ({"pose_net.extra": torch.zeros(1)}, "1 unexpected: extra"),
        ({"pose_net.scale": torch.zeros(2)}, r"scale \[2\] instead of \[1\]"),
        ({"vae.a": torch.zeros(1)}, "1 unexpected keys: vae.a"),
    ],
)
def test_every_key_is_accounted_for(base, state, tmp_path, change, message):
    changed = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        load(base, changed, tmp_path / "MimicMotion_1-1.pth")


def test_other_files_are_refused(base, state, tmp_path):
    unet_only = {key: value for key, value in state.items() if key.startswith("unet.")}
    with pytest.raises(WeightsError, match="a part is missing"):
        load(base, unet_only, tmp_path / "MimicMotion_1-1.pth")
    with pytest.raises(WeightsError, match="more than tensors"):
        load(base, {"unet.a": Path("x")}, tmp_path / "MimicMotion_1-1.pth")


def test_a_saved_folder_keeps_the_control_module(base, state, tmp_path):
    generator = load(base, state, tmp_path / "MimicMotion.pth")
    save_generator(generator, tmp_path / "model")
    loaded = load_generator(str(tmp_path / "model"))
    assert isinstance(loaded.controlnext, PoseNet)
    assert (loaded.defaults, loaded.numbers) == (generator.defaults, generator.numbers)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    settings = replace(loaded.settings(), steps=1, window_size=3, window_overlap=1)
    assert torch.equal(
        loaded.denoise(pixels[0], pixels, settings), generator.denoise(pixels[0], pixels, settings)
    )


def test_it_converts_to_one_folder(base, state, tmp_path):
    direct = load(base, state, tmp_path / "MimicMotion_1.pth")
    (source,) = convert(base, tmp_path / "model", mimicmotion=tmp_path / "MimicMotion_1.pth", dtype="fp32")
    assert source.tensors == len(state) and not source.own
    loaded = load_generator(str(tmp_path / "model"))
    assert (loaded.defaults, loaded.numbers) == (direct.defaults, direct.numbers)
    for ours, theirs in ((direct.unet, loaded.unet), (direct.controlnext, loaded.controlnext)):
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    card = (tmp_path / "model/README.md").read_text()
    assert "MimicMotion_1.pth" in card and "NOTICE" in card and source.sha256 in card


def test_noise_of_one_window_is_repeated():
    generator = tiny_random()
    settings = replace(generator.settings(), window_size=4, window_plan="mimicmotion")
    latents = generator.initial_latents(10, 32, 32, settings)
    assert torch.equal(latents[4:8], latents[:4]) and torch.equal(latents[8:], latents[:2])
    assert not torch.equal(latents[0], latents[1])

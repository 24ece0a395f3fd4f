"""`convert`, and `animate` with what it wrote, as a user types them."""

from pathlib import Path

import pytest
import torch

from posedance.pipeline.cli import main
from posedance.stages import load_pictures
from posedance.stages.image.families import new_module
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.models import save_generator
from posedance.stages.svd.files.tiny import tiny_random


def test_downloads_become_a_folder_for_animate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny, folder = tiny_random(), tmp_path / "model"
    save_generator(tiny, tmp_path / "base")
    parts = {"unet": tiny.unet, "pose_net": PoseNet(control_channels=32)}
    state = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
    torch.save(state, tmp_path / "MimicMotion_1-1.pth")
    command = ["convert", str(folder), "--base", str(tmp_path / "base")]
    named = ["--mimicmotion", str(tmp_path / "MimicMotion_1-1.pth")]
    assert main([*command, *named]) == 0
    said = capsys.readouterr().out
    assert "all names as expected" in said and said.strip().endswith(str(folder))
    assert main(["animate", "--model", str(folder), "--width", "64", "--height", "96", "--dry-run"]) == 0
    assert "1 of 72" in capsys.readouterr().out
    assert main([*command, *named]) == 2
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "other"), "--base", str(tmp_path / "base")]) == 2
    assert "give --controlnext and --unet, or --mimicmotion" in capsys.readouterr().err


def test_pictures_become_a_folder_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline("sdxl")
    pipeline.save_pretrained(tmp_path / "base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = new_module(pipeline.unet)
    torch.save(module.state_dict(), tmp_path / "controlnet.bin")
    some = {key: value + 1 for key, value in pipeline.unet.state_dict().items() if "to_out" in key}
    torch.save(some, tmp_path / "unet.bin")
    command = ["convert", str(tmp_path / "model"), "--base", str(tmp_path / "base")]
    named = ["--controlnext", str(tmp_path / "controlnet.bin"), "--unet", str(tmp_path / "unet.bin")]
    assert main([*command, "--mimicmotion", "x"]) == 2
    assert "is a base for pictures: give --controlnext" in capsys.readouterr().err
    assert main([*command, *named, "--unet-holds", "weights"]) == 0
    assert "52 tensors" in capsys.readouterr().out
    _, control = load_pictures(tmp_path / "model")
    assert control.config["control_channels"] == 32
    save_generator(tiny_random(), tmp_path / "videos")
    command[3] = str(tmp_path / "videos")
    assert main([*command, *named, "--vae", "x"]) == 2
    assert "is no base for pictures" in capsys.readouterr().err

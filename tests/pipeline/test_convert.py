"""`convert`, and `animate` with what it wrote, as a user types them."""

from pathlib import Path

import pytest
import torch

from posedance.pipeline.cli import main
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

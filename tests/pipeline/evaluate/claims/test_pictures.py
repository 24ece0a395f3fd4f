"""The comparison for pictures, small: where either way starts, what learns, and what is written."""

import json

import pytest
import torch

from posedance.pipeline.cli import main
from posedance.pipeline.evaluate.claims.picture_config import PictureClaimsConfig
from posedance.pipeline.evaluate.claims.picture_learning import PictureClaimsTask, new_base
from posedance.pipeline.evaluate.claims.task import BASE, CONTROLNET, CONTROLNEXT

SMALL = {"steps": 10, "base_steps": 1, "batch": 1, "held_out": 2, "moments": 2, "pictures": 2}
SMALL |= {"rounds": 1, "latents": 8, "width": 32, "height": 48, "widths": (16, 16)}


def test_a_new_controlnet_says_what_its_base_does_and_controlnext_does_not():
    config = PictureClaimsConfig.model_validate(SMALL)
    pictures = config.training(BASE, base=True).data.training()
    batch = [pictures[0]]
    state = new_base(config).unet.state_dict()
    losses, sizes = {}, {}
    for way in (BASE, CONTROLNET, CONTROLNEXT):
        task = PictureClaimsTask(way, config, new_base(config, state), pictures, {}, [])
        loss, _ = task.loss(0, 0, batch)
        loss.backward()
        losses[way] = float(loss.detach())
        learned = {name.partition(".")[0] for name, _ in task.trainable()}
        assert learned == ({"network"} if way == BASE else {"network", "control"})
        control = [p for name, p in task.trainable() if name.startswith("control.")]
        sizes[way] = sum(p.numel() for p in control)
        assert way == BASE or any(p.grad is not None and bool(p.grad.any()) for p in control)
    assert losses[CONTROLNET] == pytest.approx(losses[BASE], abs=1e-6)
    assert losses[CONTROLNEXT] != pytest.approx(losses[BASE], abs=1e-6)
    assert 0 < sizes[CONTROLNEXT] < sizes[CONTROLNET] and torch.is_grad_enabled()


@pytest.mark.slow
def test_everything_is_compared_and_written(tmp_path, capsys):
    words = [
        part
        for name, value in SMALL.items()
        for part in (f"--{name.replace('_', '-')}", value)
        if name != "widths"
    ]
    figures = tmp_path / "pictures.json"
    paths = ["--output", str(tmp_path / "out"), "--json", str(figures)]
    assert main(["evaluate", "pictures", *map(str, words), *paths]) == 0
    learning = json.loads(figures.read_text())["learning"]
    assert list(learning["ways"]) == [CONTROLNEXT, CONTROLNET]
    for way in learning["ways"].values():
        assert list(way["at_step"]) == ["1", "2", "4", "10"]
        assert all({"loss", "pose_error_percent"} < at.keys() for at in way["at_step"].values())
    assert "loss, pose error, step 10" in capsys.readouterr().out

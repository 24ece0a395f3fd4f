"""`make demo-model`, and what takes its model to twice the size: each training is one step long."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from posedance.datasets.puppets.render import make_character, reference_pose, render
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.encoder import EncoderConfig, train_encoder
from posedance.pipeline.train.larger import LargerConfig, train_larger
from posedance.pipeline.train.train import train
from posedance.pipeline.train.vae import VaeConfig, train_vae
from posedance.stages.models import load_generator
from posedance.stages.svd.files.folder import load_network

ROOT = Path(__file__).resolve().parents[3]
LARGER = (
    "python run.py train vae --config configs/train/demo_fine_vae.yaml",
    "python run.py train larger --config configs/train/demo_larger.yaml",
    "python run.py train --config configs/train/demo_fine.yaml",
)


def recipe() -> list[str]:
    """The lines of the Makefile's recipe."""
    text = (ROOT / "Makefile").read_text()
    found = re.search(r"^demo-model:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert found is not None
    return found[1].splitlines()


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights."""
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


@pytest.mark.slow
def test_the_recipe_makes_a_model_that_dances(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("validation", "vae", "encoder", "larger"):
        monkeypatch.setattr(f"posedance.pipeline.train.{module}.VALIDATION_CLIPS", 1)
    # what these networks need is counted for longer than they learn here; test_options.py looks at that
    monkeypatch.setattr("posedance.pipeline.train.plan.activation_bytes", lambda task: (0, 0))
    *trainings, copying = recipe()
    ways: dict[str, tuple[Any, Any]] = {
        "vae": (VaeConfig, train_vae),
        "image-encoder": (EncoderConfig, train_encoder),
        "larger": (LargerConfig, train_larger),
    }
    for line in (*trainings, *LARGER):
        _, _, command, *rest = shlex.split(line.strip())
        assert command == "train"
        model, run = ways.get(rest[0], (TrainConfig, train))
        given = yaml.safe_load((ROOT / rest[-1]).read_text())
        given |= {"batch": 1} if "batch" in given else {}
        given["data"] |= {"clips": 2, "frames": 2}
        given["loop"] |= {"steps": 1, "warmup": 1, "cooldown": 1}
        run(model.model_validate(given))
    vaes: list[Any] = [load_network("vae", Path("out/demo") / name / "vae") for name in ("vae", "decoder")]
    first, second = vaes
    assert same(first.encoder, second.encoder) and not same(first.decoder, second.decoder)
    assert first.config["scaling_factor"] == second.config["scaling_factor"]
    made = Path(copying.split("cp -r ")[1].split()[0])
    for folder, width, height in ((made, 108, 192), (Path("out/demo/fine/model"), 216, 384)):
        generator = load_generator(str(folder))
        assert (generator.defaults.width, generator.defaults.height) == (width, height)
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 16e6
        still = render(make_character(1), reference_pose(1), 0, width, height).image
        settings = replace(generator.settings(), steps=1)
        latents = generator.denoise(still, still[None].repeat(3, 0), settings)
        frames = list(generator.decode(latents, settings))
        assert [frame.shape for frame in frames] == [(height, width, 3)] * 2

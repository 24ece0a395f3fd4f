"""`make demo-model`: its trainings, each a step long, one on what the other wrote."""

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
from posedance.pipeline.train.train import train
from posedance.pipeline.train.vae import VaeConfig, train_vae
from posedance.stages.models import load_generator
from posedance.stages.svd.files.folder import load_network

ROOT = Path(__file__).resolve().parents[3]


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
    for module in ("validation", "vae", "encoder"):
        monkeypatch.setattr(f"posedance.pipeline.train.{module}.VALIDATION_CLIPS", 1)
    # what these networks need is counted for longer than they learn here; test_options.py looks at that
    monkeypatch.setattr("posedance.pipeline.train.plan.activation_bytes", lambda task: (0, 0))
    *trainings, copying = recipe()
    ways = {"vae": (VaeConfig, train_vae), "image-encoder": (EncoderConfig, train_encoder)}
    for line in trainings:
        _, _, command, *rest = shlex.split(line.strip())
        assert command == "train"
        model, run = ways.get(rest[0], (TrainConfig, train))
        given = yaml.safe_load((ROOT / rest[-1]).read_text())
        given["batch"] = 1
        given["data"] |= {"clips": 2, "frames": 2}
        given["loop"] |= {"steps": 1, "warmup": 1, "cooldown": 1}
        run(model.model_validate(given))
    vaes: list[Any] = [load_network("vae", Path("out/demo") / name / "vae") for name in ("vae", "decoder")]
    first, second = vaes
    assert same(first.encoder, second.encoder) and not same(first.decoder, second.decoder)
    assert first.config["scaling_factor"] == second.config["scaling_factor"]
    made = Path(copying.split("cp -r ")[1].split()[0])
    generator = load_generator(str(made))
    assert (generator.defaults.width, generator.defaults.height) == (108, 192)
    assert sum(file.stat().st_size for file in made.rglob("*") if file.is_file()) < 25e6
    still = render(make_character(1), reference_pose(1), 0, 108, 192).image
    settings = replace(generator.settings(), steps=1)
    frames = list(generator.decode(generator.denoise(still, still[None].repeat(3, 0), settings), settings))
    assert [frame.shape for frame in frames] == [(192, 108, 3)] * 2

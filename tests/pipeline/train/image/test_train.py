"""A training for pictures of seconds, end to end: stopped and gone on, saved in three ways, loaded again."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from posedance.pipeline.cli import main
from posedance.pipeline.train.image.config import ImageTrainConfig
from posedance.pipeline.train.image.plan import plan_pictures
from posedance.pipeline.train.image.task import PictureTask
from posedance.pipeline.train.image.train import identity_of_pictures, save_trained, train_pictures
from posedance.pipeline.train.ray import train_on_ray
from posedance.stages import attach_control, load_pictures
from posedance.stages.errors import ConfigError
from posedance.stages.image.attach import network_of
from posedance.stages.image.tiny import tiny_pipeline

NEW = {"stem": 8, "in_channels": (8,), "out_channels": (8,), "groups": (1,)}
NEW |= {"stem_groups": 1, "mid_groups": 1, "time": 8}


def small(output: Path, base: str = "tiny-sd15", **changes) -> ImageTrainConfig:
    loop = {"steps": 4, "learning_rate": 1e-3, "warmup": 1, "checkpoint_every": 2, "validate_every": 100}
    data = {"width": 32, "height": 32, "canvas": 96, "pictures": 3, "workers": 0}
    settings = {"output": output, "base": base, "new": NEW, "batch": 2}
    settings["loop"] = loop | changes.pop("loop", {})
    settings["data"] = data | changes.pop("data", {})
    return ImageTrainConfig.model_validate(settings | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    train_pictures(small(output, loop={"log_every": 1}))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    paths = sorted((folder / "model").rglob("*.safetensors"))
    return {f"{path.name}/{key}": value for path in paths for key, value in load_file(path).items()}


def test_a_stopped_run_ends_as_one_that_was_not(whole, tmp_path):
    train_pictures(small(tmp_path, loop={"steps": 2}))
    shutil.rmtree(tmp_path / "model")
    train_pictures(small(tmp_path))
    ours, theirs = weights(tmp_path), weights(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 10
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(ConfigError, match="other settings"):
        train_pictures(small(tmp_path, scale=0.5))


def test_the_log_has_losses_and_what_the_control_gains(whole):
    text = (whole / "log.jsonl").read_text()
    for word in ("loss_low", "validation_loss_0.5", "validation_gain_0.9"):
        assert word in text
    assert any((whole / "tensorboard").iterdir())


@pytest.mark.parametrize("base", ["tiny-sdxl", "tiny-sd3"])
def test_all_three_ways_of_saving_give_one_network(tmp_path, base):
    made = {}
    for save in ("whole", "subset", "increments"):
        task = PictureTask(small(tmp_path, base, save=save))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name in task.learned:
                parameter = task.network.get_parameter(name)
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
        folder = save_trained(task, tmp_path / save, "none")
        if save == "whole":
            made[save] = load_pictures(folder)
        else:
            (file,) = folder.glob("*.safetensors")
            made[save] = load_pictures(base, folder, [file])
    before = network_of(tiny_pipeline(base.removeprefix("tiny-"))).state_dict()
    exact = network_of(made["increments"][0]).state_dict()
    changed = [key for key, value in exact.items() if not torch.equal(value, before[key])]
    assert changed and all("to_out" in key for key in changed)
    for save in ("whole", "subset"):
        state = network_of(made[save][0]).state_dict()
        for key in changed:
            assert torch.allclose(state[key], exact[key], atol=1e-3), (save, key)
        for ours, theirs in zip(made[save][1].parameters(), made["increments"][1].parameters(), strict=True):
            assert torch.equal(ours, theirs)
    pipeline, module = made["increments"]
    pipeline.set_progress_bar_config(disable=True)
    with attach_control(pipeline, module, torch.zeros(1, 3, 32, 32)):
        latents = pipeline("a", height=32, width=32, num_inference_steps=1, output_type="latent").images
    assert torch.isfinite(latents).all()


def test_the_card_says_what_it_is(whole):
    card = (whole / "model/README.md").read_text()
    for word in ("tiny-sd15", "Condition: pose", "dancers drawn by `datasets/puppets/render.py`", "4 steps"):
        assert word in card
    assert str(whole) not in card


def test_a_module_goes_on_and_the_network_may_rest(whole, tmp_path):
    config = small(tmp_path, learn="none", new=None, controlnext=whole / "model", loop={"steps": 1})
    folder = train_pictures(config)
    assert not list(folder.glob("*.safetensors"))
    assert len(list((folder / "controlnext").glob("*.safetensors"))) == 1
    _, module = load_pictures("tiny-sd15", folder)
    assert module.config["in_channels"] == [8]
    assert identity_of_pictures(config)["controlnext"] != identity_of_pictures(small(tmp_path))["controlnext"]


def test_the_plan_counts_without_weights(capsys, tmp_path):
    assert main(["train", "image", "--base", "sdxl", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "learning ControlNeXt 3,526,400, UNet2DConditionModel 102,483,200 of 2,567,463,684" in said
    plan = plan_pictures(small(tmp_path, base="somebody/base"))
    assert "somebody/base is not here in diffusers layout" in plan
    tiny_pipeline("sd3").save_pretrained(tmp_path / "base")
    assert "SD3Transformer2DModel 4," in plan_pictures(small(tmp_path, base=str(tmp_path / "base")))


@pytest.mark.slow
def test_two_workers_of_ray_train_learn_what_one_process_does(ray_here, tmp_path, losses):
    asked = {"batch": 1, "loop": {"accumulation": 2, "log_every": 1, "steps": 2}}
    train_pictures(small(tmp_path / "alone", **asked))
    assert train_on_ray(small(tmp_path / "ray", **asked), 2, None) == tmp_path / "ray/model"
    assert losses(tmp_path / "ray") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    assert weights(tmp_path / "ray").keys() == weights(tmp_path / "alone").keys()

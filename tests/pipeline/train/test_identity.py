"""A stopped training goes on where all that decides its numbers is the same, and only there."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from posedance.pipeline.train.checkpoints import checkpoints, differences
from posedance.pipeline.train.data import make_shards
from posedance.pipeline.train.identity import identity_of
from posedance.pipeline.train.train import train
from posedance.stages.errors import ConfigError


def changed(before, after):
    return differences(identity_of(before), identity_of(after))


def test_what_does_not_change_the_numbers_is_no_other_run(base, config, tmp_path, monkeypatch):
    before = config(base, tmp_path / "run", loop={"steps": 1})
    vae = shutil.copytree(base[1].parent, tmp_path / "copy") / "vae"
    (vae.parent / "README.md").write_text("where it came from")
    monkeypatch.chdir(tmp_path)
    after = config(
        base,
        "run",
        gradient_checkpointing=True,
        cache_latents=True,
        latents=tmp_path / "latents",
        data={"workers": 1, "cache": None},
        model=before.model.model_dump() | {"vae": vae, "window": 5, "guidance_scale": 2.0},
        loop={"steps": 2},
    )
    assert changed(before, after) == []
    train(before)
    train(after.model_copy(update={"data": before.data}))
    assert checkpoints(tmp_path / "run")[-1].name == "checkpoint-0000002"


@pytest.fixture(scope="module")
def trained(base, config, tmp_path_factory):
    """A model folder that a training wrote."""
    return train(config(base, tmp_path_factory.mktemp("trained"), loop={"steps": 1}))


@pytest.mark.parametrize("name", ["unet", "controlnext", "vae", "image_encoder"])
def test_weights_that_changed_since_are_another_run(base, config, trained, tmp_path, name):
    model = {"base": shutil.copytree(trained, tmp_path / "base")}
    settings = config(base, tmp_path / "run", model=model, loop={"steps": 1})
    before = identity_of(settings)
    (path,) = (model["base"] / name).glob("*.safetensors")
    save_file({key: value / 2 for key, value in load_file(path).items()}, path)
    assert differences(before, identity_of(settings)) == [f"networks.{name}"]


def test_a_run_on_weights_that_were_halved_is_refused(base, config, trained, tmp_path):
    model = {"base": shutil.copytree(trained, tmp_path / "base")}
    settings = config(base, tmp_path / "run", model=model, loop={"steps": 1})
    train(settings)
    (path,) = (tmp_path / "base" / "unet").glob("*.safetensors")
    save_file({key: value / 2 for key, value in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match=r"other settings \(networks\.unet\)"):
        train(settings)


def test_other_clips_are_another_run_and_moved_ones_are_not(base, config, tmp_path):
    assert make_shards(config(base, tmp_path).data, tmp_path / "a", 1) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before, moved = (config(base, tmp_path, data={"shards": tmp_path / name}) for name in "ab")
    assert changed(before, moved) == []
    sorted((tmp_path / "b").glob("*.tar"))[-1].unlink()
    fewer = config(base, tmp_path, data={"shards": tmp_path / "b", "cache": tmp_path})  # not looked at before
    assert changed(before, fewer) == ["data.files"]
    assert changed(before, config(base, tmp_path, data={"seed": 1}))


def test_what_a_place_weighs_in_the_loss_is_another_run(base, config, tmp_path):
    before, after = (config(base, tmp_path, weights={"face": face}) for face in (2.0, 3.0))
    assert changed(before, after) == ["weights.face"]

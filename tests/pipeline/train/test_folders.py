"""The output folders of long commands: held by one process, never emptied of what others put there."""

import pytest

from posedance.pipeline.cli import main
from posedance.pipeline.evaluate.claims.claims import ClaimsConfig, evaluate_claims
from posedance.pipeline.job.job import hold_beside, hold_folder
from posedance.pipeline.train.data import DataConfig, make_shards
from posedance.pipeline.train.encoder import EncoderConfig, train_encoder
from posedance.pipeline.train.train import train
from posedance.pipeline.train.vae import VaeConfig, train_vae
from posedance.stages.errors import ConfigError, OutputError


def start(name, config, base, folder):
    """Start one of the long commands in `folder`."""
    commands = {
        "train": lambda: train(config(base, folder)),
        "vae": lambda: train_vae(VaeConfig(output=folder)),
        "image-encoder": lambda: train_encoder(EncoderConfig(output=folder)),
        "claims": lambda: evaluate_claims(ClaimsConfig(output=folder)),
    }
    commands[name]()


@pytest.mark.parametrize("name", ["train", "vae", "image-encoder", "claims"])
def test_a_second_start_in_the_same_folder_is_refused(name, config, base, tmp_path):
    folder = tmp_path / "run"
    with hold_folder(folder), pytest.raises(OutputError, match=r"run is in use by process \d+: wait"):
        start(name, config, base, folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_shards_are_written_by_one_process(tmp_path):
    with hold_beside(tmp_path / "new"), pytest.raises(OutputError, match=r"new is in use by process"):
        make_shards(DataConfig(), tmp_path / "new", 1)


def test_convert_holds_the_folder_that_it_will_make(tmp_path, capsys):
    with hold_beside(tmp_path / "new"):
        words = ["convert", str(tmp_path / "new"), "--base", "absent", "--mimicmotion", "absent.pth"]
        assert main(words) == 2
    assert "new is in use by process" in capsys.readouterr().err


def test_what_lies_in_place_of_the_model_is_not_removed(config, base, tmp_path):
    settings = config(base, tmp_path, loop={"steps": 1})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"model is no model of a training: move it elsewhere"):
        train(settings)
    (tmp_path / "model" / "thesis.txt").unlink()
    train(settings)
    notes = tmp_path / "model" / "unet" / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(OutputError, match=r"holds unet/notes\.txt, which no training writes"):
        train(settings)
    assert notes.read_text() == "mine"
    notes.rename(tmp_path / "notes.txt")
    train(settings)  # its own model is replaced


def test_a_config_of_accelerate_that_would_be_ignored_is_refused(config, base, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(
        ConfigError, match=r"configured for DeepSpeed, which no training here heeds: use FSDP"
    ):
        train(config(base, tmp_path / "run"))
    assert not (tmp_path / "run").exists()

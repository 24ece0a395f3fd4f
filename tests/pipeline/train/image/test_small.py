"""The small bases: where they start, what they learn, and what is kept of them."""

import json

import numpy as np
import pytest
import torch

from posedance.pipeline.train.image.config import ImageTrainConfig
from posedance.pipeline.train.image.enlarging import EnlargingTask, places
from posedance.pipeline.train.image.task import PictureTask, figure_weights
from posedance.pipeline.train.image.train import train_pictures
from posedance.pipeline.train.words import WordsConfig, WordsTask
from posedance.stages import load_pictures
from posedance.stages.errors import ConfigError

NEW = {"stem": 8, "in_channels": (8,), "out_channels": (8,), "groups": (1,)}
NEW |= {"stem_groups": 1, "mid_groups": 1, "time": 8}
LOW = {"condition": "low-resolution", "factor": 2, "faults": False, "keep": True}


def small(output, base: str, data: dict, **changes) -> ImageTrainConfig:
    loop = {"steps": 2, "learning_rate": 2e-3, "warmup": 1, "validate_every": 100, "ema": 0.0}
    shared = {"width": 64, "height": 96, "canvas": 192, "pictures": 2, "workers": 0}
    settings = {"output": output, "base": base, "batch": 2, "learn": "all", "save": "whole"}
    settings["loop"] = loop | changes.pop("loop", {})
    return ImageTrainConfig.model_validate(settings | {"data": shared | data} | changes)


def enlarging(output, **changes) -> ImageTrainConfig:
    return small(output, "small-sd3", LOW, **({"begin": 0.00893, "new": NEW} | changes))


def test_enlarging_starts_at_the_enlarged_picture_and_learns(tmp_path):
    config = enlarging(tmp_path, crop=32, crops=4)
    task = EnlargingTask(config)
    batch = [config.data.training()[i] for i in range(2)]
    loss, logs = task.loss(0, 0, batch)
    assert float(loss.detach()) == pytest.approx(1, abs=0.1)
    assert logs["error_left"] == float(loss.detach())
    optimizer = torch.optim.Adam([p for _, p in task.trainable()], 3e-3)
    for step in range(15):
        optimizer.zero_grad()
        loss, _ = task.loss(step, 0, batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.97


def test_squares_are_cut_from_latents_and_condition_alike(tmp_path):
    task = EnlargingTask(enlarging(tmp_path, crop=32, crops=3))
    sample = task.config.data.training()[0]
    begun, truth, condition = task.squares([sample], torch.Generator().manual_seed(0))
    assert begun.shape == truth.shape == (3, 8, 8, 8) and condition.shape == (3, 3, 32, 32)
    again = task.encode((condition.movedim(1, -1) * 255).round().byte().numpy())
    inner = (slice(None), slice(None), slice(3, 5), slice(3, 5))
    assert (again[inner] - begun[inner]).norm() < 0.3 * begun[inner].norm(), "but for their edges"


def test_places_are_where_there_is_most_to_learn():
    much = torch.zeros(20, 30)
    much[10, 20] = 1000
    found = places(much, 6, 50, torch.Generator().manual_seed(0))
    assert found.count((7, 17)) > 35
    assert all(0 <= y <= 14 and 0 <= x <= 24 for y, x in found)


def test_begin_is_refused_where_it_means_nothing(tmp_path):
    with pytest.raises(ConfigError, match="begin is for low-resolution pictures on SD3, not for pose on sd3"):
        EnlargingTask(small(tmp_path, "small-sd3", {"condition": "pose"}, begin=0.01, new=NEW))


def test_a_small_base_is_kept_without_its_vae(tmp_path):
    folder = train_pictures(enlarging(tmp_path, crop=32, loop={"steps": 1}))
    assert json.loads((folder / "pictures.json").read_text()) == {"vae": "demo"}
    assert not (folder / "vae").exists()
    assert all(file.stat().st_size < 2e6 for file in folder.rglob("*.safetensors"))
    pipeline, module = load_pictures(folder)
    assert pipeline.vae.config["latent_channels"] == 8
    assert module.config["stem_channels"] == 8
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"psnr", "psnr_lanczos"} < set(log[-1])


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    task = WordsTask(WordsConfig())
    task.encoder.save_pretrained(folder / "text_encoder")
    task.tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def test_the_painter_stands_as_asked_before_it_learns(tmp_path, words):
    """In one step from nothing it knows more with the pose than without it."""
    task = PictureTask(small(tmp_path, "small-sd15", {"condition": "pose"}, words=words))
    batch = [task.config.data.training()[i] for i in range(2)]
    latents = task.encode(np.stack([sample.picture for sample in batch]))
    condition = torch.stack([torch.from_numpy(s.condition).permute(2, 0, 1) / 255 for s in batch])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.full((2,), 700)
    text = task.words([sample.prompt for sample in batch])
    with torch.no_grad():
        known, unknown = (
            float(task.losses(latents, noise, timesteps, given, text).mean()) for given in (condition, None)
        )
    assert known < 0.9 * unknown
    weighted = PictureTask(small(tmp_path, "small-sd15", {"condition": "pose"}, words=words, figure=4.0))
    losses = [float(each.loss(0, 0, batch)[0].detach()) for each in (task, weighted)]
    assert losses[1] > 1.2 * losses[0], "places near the figure count more"


def test_the_painter_needs_words(tmp_path):
    with pytest.raises(ConfigError, match="name the folder that train words wrote"):
        PictureTask(small(tmp_path, "small-sd15", {"condition": "pose"}))


def test_places_near_the_figure_count_more():
    condition = torch.zeros(1, 3, 112, 56)
    condition[:, 0, 56, 28] = 1
    weights = figure_weights(condition, (28, 14), 5.0)[0, 0]
    assert weights[14, 7] == weights[12, 5] == 5
    assert weights[11, 7] == weights[14, 4] == 1

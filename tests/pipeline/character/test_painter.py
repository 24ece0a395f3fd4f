"""The table of models for pictures: each row can do its task, and a folder with a row becomes the default."""

from pathlib import Path

import numpy as np
import pytest
import torch

from posedance.pipeline.character.options import CharacterOptions
from posedance.pipeline.character.painter import parts_of, settled, weights_of
from posedance.pipeline.character.painting import tell_strange_words
from posedance.stages import load_pictures
from posedance.stages.errors import ConfigError
from posedance.stages.image.convert import save_pictures
from posedance.stages.image.models import OTHERS, PAINTERS, PictureModel, painter_of
from posedance.stages.image.paint import PaintSettings, paint
from posedance.stages.image.tiny import tiny_module, tiny_pipeline


@pytest.mark.parametrize("task", list(PAINTERS))
def test_every_model_does_its_task(task):
    assert set(PAINTERS[task].defaults) <= set(OTHERS[task]), "of these options alone the defaults are taken"
    settings = PaintSettings("a dancer", "", 2, 1.0, 1.0, 0.5)
    begun = np.full((64, 64, 3), 90, np.uint8) if task == "upscale" else None
    made = paint(*load_pictures(painter_of(task).base), torch.rand(1, 3, 64, 64), settings, 0, begun)
    assert made.shape == (64, 64, 3) and made.dtype == np.uint8


def test_a_folder_and_a_row_are_the_default(tmp_path, monkeypatch):
    nobodys = CharacterOptions()
    assert parts_of(nobodys, "character").base == PAINTERS["character"].base
    pipeline = tiny_pipeline("sd15")
    save_pictures(pipeline, tiny_module(pipeline.unet), tmp_path / "painter")
    row = PictureModel(str(tmp_path / "painter"), {"steps": 8, "guidance_scale": 3.0})
    monkeypatch.setitem(PAINTERS, "character", row)
    own = settled(nobodys, "character")
    assert (own.steps, own.guidance_scale, own.strength) == (8, 3.0, 0.75)
    named = settled(CharacterOptions(base="sd15", steps=4), "character")
    assert (named.steps, named.guidance_scale) == (4, 7.5), "the defaults of the table's own are its own"
    assert "unet/diffusion_pytorch_model.safetensors" in weights_of(nobodys, "character")["base"][0]
    load_pictures(parts_of(nobodys, "character").base)
    (tmp_path / "painter/model_index.json").unlink()
    with pytest.raises(ConfigError, match="the model for character is not part of this installation"):
        parts_of(nobodys, "character")
    assert parts_of(CharacterOptions(base=str(Path("x"))), "character").base == "x"


def test_words_that_the_shipped_painter_does_not_know_are_said(caplog):
    pipeline, _ = load_pictures(painter_of("character").base)
    tell_strange_words(pipeline.tokenizer, "A dancer with red hair in a blue top and black shorts")
    assert not caplog.records
    tell_strange_words(pipeline.tokenizer, "a red coat, a Red hat")
    assert "this model does not know coat, hat: its card" in caplog.text

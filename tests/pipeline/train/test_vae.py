"""A VAE's training: what it learns from of each picture."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from posedance.pipeline.train.data import DataConfig
from posedance.pipeline.train.vae import VaeConfig, VaeTask, crop_places, cut


def test_crops_lie_in_the_picture_where_the_weight_is() -> None:
    weight = np.full((400, 40, 60), 1e-3, np.float32)
    weight[:200, 0, 59] = weight[200:, 30, 20] = 1e5
    places = crop_places(weight, 16, torch.Generator().manual_seed(0))
    assert set(places[:200]) == {(0, 44)}  # moved back from the corner
    assert set(places[200:]) == {(22, 12)}
    spread = np.array(crop_places(np.ones_like(weight), 16, torch.Generator().manual_seed(0)))
    assert spread.min(0).tolist() == [0, 0] and spread.max(0).tolist() == [24, 44]


def test_a_picture_and_its_weight_are_cut_at_the_same_places() -> None:
    pictures = np.arange(2 * 8 * 9 * 3, dtype=np.float32).reshape(2, 8, 9, 3)
    squares = cut(pictures, [(0, 5), (4, 1)], 4)
    assert np.array_equal(squares, np.stack([pictures[0, :4, 5:], pictures[1, 4:, 1:5]]))
    assert np.array_equal(cut(pictures[..., 1], [(0, 5), (4, 1)], 4), squares[..., 1])


def test_only_the_crop_is_learned_from() -> None:
    data = DataConfig(width=32, height=48, canvas=96, clips=2, frames=2, workers=0)
    task = VaeTask(VaeConfig(widths=(32, 64, 64), data=data, crop=16))
    seen = []
    task.vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    loss, _ = task.loss(0, 0, next(iter(task.batches(0, 1, range(1)))))
    assert seen == [(6, 3, 16, 16)] and torch.isfinite(loss)


@pytest.mark.parametrize("crop", [18, 80])
def test_a_crop_that_does_not_fit_is_refused(crop: int) -> None:
    with pytest.raises(ValidationError, match=f"crop is {crop}: give a multiple of 4 of at most 72"):
        VaeConfig(crop=crop)

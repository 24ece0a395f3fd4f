"""Enlarged frames: tiles without seams, the same noise at a place in every frame, colours that stay."""

from itertools import pairwise

import numpy as np
import pytest

from posedance.stages.image import upscale
from posedance.stages.image.paint import PaintSettings
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.image.upscale import padded, ramps, spans, tiles, upscale_frame, with_colours_of

SETTINGS = PaintSettings("", "", 2, 1.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(64, 64, 16), (100, 64, 16), (300, 64, 0), (301, 64, 32)]
)
def test_spans_cover_and_overlap(length, tile, overlap):
    found = spans(length, tile, overlap)
    assert found[0].start == 0 and found[-1].stop == length
    assert all(b.start <= a.stop - overlap for a, b in pairwise(found))
    weights = np.zeros(length)
    for span in found:
        part = ramps(span, length, overlap)
        assert (part > 0).all()
        weights[span] += part
    assert (weights > 0).all()


def test_pictures_shorter_than_a_tile_are_one():
    assert tiles(48, 32, 64, 16) == [(slice(0, 48), slice(0, 32))]
    assert padded(np.zeros((40, 33, 3), np.uint8)).shape == (48, 48, 3)


def test_blended_tiles_show_no_seam(monkeypatch):
    """A painter that gives back what it is given gives back the whole frame."""
    seeds = []
    monkeypatch.setattr(upscale, "paint", lambda p, m, c, s, seed, begun: seeds.append(seed) or begun)
    frame = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
    made = [upscale_frame(None, None, frame, 2, SETTINGS, 5, 64, 16) for _ in range(2)]
    enlarged = upscale.low_resolution(frame, 140, 90)
    assert np.abs(made[0].astype(int) - enlarged).max() <= 1
    half = len(seeds) // 2
    assert seeds[:half] == seeds[half:], "the same noise at a place in every frame"
    assert len(set(seeds)) == half > 3, "and another at each"


def test_colours_cannot_drift():
    enlarged = np.full((64, 64, 3), 100, np.uint8)
    detail = np.random.default_rng(0).normal(0, 10, (64, 64, 3))
    made = with_colours_of(enlarged, 160 + detail, 4.0)
    assert np.abs(made.mean((0, 1)) - 100).max() < 1
    assert 8 < made.std() < 12, "the detail stays"


def test_a_tiny_base_enlarges(narrow):
    pipeline = tiny_pipeline("sd3")
    frame = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    made = upscale_frame(pipeline, narrow(pipeline.transformer), frame, 2, SETTINGS, 0, 64, 16)
    again = upscale_frame(pipeline, narrow(pipeline.transformer), frame, 2, SETTINGS, 0, 64, 16)
    assert made.shape == (32, 48, 3)
    assert np.array_equal(made, again)
    assert not np.array_equal(made, upscale.low_resolution(frame, 48, 32))

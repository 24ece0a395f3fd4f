"""Enlarged frames: tiles without seams, the same noise at a place in every frame, colours that stay."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from posedance.stages.image import upscale
from posedance.stages.image.paint import PaintSettings
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.image.upscale import consistent, padded, ramps, spans, tiles, upscale_frame

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
    assert np.array_equal(made[0], consistent(enlarged.astype(np.float64), frame))
    half = len(seeds) // 2
    assert seeds[:half] == seeds[half:], "the same noise at a place in every frame"
    assert len(set(seeds)) == half > 3, "and another at each"


def test_what_a_low_resolution_pixel_knows_is_kept():
    """A painter may add what is finer, and can change no colour of what is larger."""
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 256, (32, 32, 3), np.uint8), (0, 0), 3)
    fine = np.kron(rng.normal(0, 10, (32, 32, 1)), np.array([[1, -1], [-1, 1]])[..., None])
    drifted = upscale.low_resolution(frame, 64, 64) * 0.8 + 20.0
    made = consistent(drifted + fine, frame)
    small = cv2.resize(made, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - frame).mean() < 1
    assert np.corrcoef((made - drifted).ravel(), np.broadcast_to(fine, made.shape).ravel())[0, 1] > 0.5


def test_a_tiny_base_enlarges(narrow):
    pipeline = tiny_pipeline("sd3")
    frame = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    made = upscale_frame(pipeline, narrow(pipeline.transformer), frame, 2, SETTINGS, 0, 64, 16)
    again = upscale_frame(pipeline, narrow(pipeline.transformer), frame, 2, SETTINGS, 0, 64, 16)
    assert made.shape == (32, 48, 3)
    assert np.array_equal(made, again)
    assert not np.array_equal(made, upscale.low_resolution(frame, 48, 32))

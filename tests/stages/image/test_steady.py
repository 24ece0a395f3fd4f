"""Painted frames blended with their neighbours: steadier, as sharp, and along the motion."""

import numpy as np
import pytest

from posedance.stages.image.steady import steadied
from posedance.stages.quality import flicker


def scene(count: int, speed: float) -> np.ndarray:
    """A smooth pattern uint8 [T, 96, 128, 3] that moves to the right by `speed` pixels a frame."""
    rows, columns = np.mgrid[:96, :128]
    frames = [
        127 + 60 * np.sin((columns - speed * t) / 6) * np.cos(rows / 9) + 30 * np.sin(rows / 17)
        for t in range(count)
    ]
    return np.repeat(np.stack(frames)[..., None], 3, axis=3).clip(0, 255).astype(np.uint8)


def noisy(frames: np.ndarray, size: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, size, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("speed", [0.0, 2.5])
def test_what_differs_from_frame_to_frame_becomes_less(speed: float) -> None:
    plain = scene(7, speed)
    painted = noisy(plain, 8)
    steady = np.stack(list(steadied(zip(plain, painted, strict=True), 2)))
    assert steady.shape == painted.shape and steady.dtype == np.uint8
    before, after = (np.abs(frames.astype(float) - plain).mean() for frames in (painted, steady))
    assert after < 0.65 * before, "independent faults are averaged, wherever the pattern went"
    assert flicker(steady, plain) - 1 < 0.6 * (flicker(painted, plain) - 1)


def test_noise_of_the_enlarged_frames_themselves_becomes_less() -> None:
    clean = scene(5, 1.0)
    plain = noisy(clean, 1.5)
    steady = np.stack(list(steadied(zip(plain, plain, strict=True), 2)))
    before, after = (np.abs(frames.astype(float) - clean).mean() for frames in (plain, steady))
    assert after < 0.7 * before and flicker(steady, plain) < 0.8


def test_detail_that_stays_with_the_motion_stays() -> None:
    plain = scene(6, 3.0)
    stripes = 20 * ((np.mgrid[:96, :128][1] % 8 < 4) - 0.5)[..., None]
    painted = np.stack([frame + np.roll(stripes, 3 * t, 1) for t, frame in enumerate(plain)])
    painted = painted.clip(0, 255).astype(np.uint8)
    steady = np.stack(list(steadied(zip(plain, painted, strict=True), 1)))
    inner = np.s_[1:-1, 8:-8, 24:-24]
    left = steady.astype(float)[inner] - plain[inner]
    given = painted.astype(float)[inner] - plain[inner]
    assert (left * given).mean() > 0.8 * (given * given).mean()


def test_neighbours_of_another_scene_count_for_nothing() -> None:
    plain = np.concatenate([scene(2, 0), 255 - scene(2, 0)])
    painted = noisy(plain, 5)
    steady = list(steadied(zip(plain, painted, strict=True), 3))
    first = list(steadied(zip(plain[:2], painted[:2], strict=True), 3))
    assert np.abs(steady[1].astype(int) - first[1]).mean() < 0.2


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_frame_comes_out_and_none_too_early(count: int) -> None:
    plain = scene(count, 1.0)
    assert all(
        np.array_equal(ours, frame)
        for ours, frame in zip(steadied(zip(plain, plain + 1, strict=True), 0), plain + 1, strict=True)
    )
    taken = []
    pairs = ((frame, frame) for frame in plain if taken.append(1) is None)
    made = 0
    for made, _ in enumerate(steadied(pairs, 2), 1):
        assert len(taken) <= made + 2, "it reads as far ahead as it blends"
    assert made == count

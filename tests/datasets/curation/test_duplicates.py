"""Copies among clips are found by their dance, whatever was done to them; other clips are left alone."""

from dataclasses import replace

import numpy as np
import pytest

from posedance.datasets.curation.duplicates import (
    Duplicate,
    at,
    best_line,
    duplicates,
    is_copy,
    looks_alike,
    moments,
)
from posedance.datasets.curation.fingerprint import RATE, Fingerprint, mirrored, perceptual_hash

STANDING = np.array(
    [
        [0, -0.5],
        *([0.4, 0], [-0.4, 0], [0.6, 0.5], [-0.6, 0.5], [0.7, 1], [-0.7, 1]),
        *([0.3, 1], [-0.3, 1], [0.3, 1.8], [-0.3, 1.8], [0.3, 2.6], [-0.3, 2.6]),
    ]
)


def dance(seed: int, seconds: float = 5) -> np.ndarray:
    """Joints float32 [M, 13, 2] that swing at random rates."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE))[:, None, None] / RATE
    waves = [
        rng.normal(0, 0.25, (1, 13, 2)) * np.sin(2 * np.pi * (rate * times + rng.uniform(size=(1, 13, 2))))
        for rate in (0.3, 0.5, 0.9, 1.3)
    ]
    return (STANDING + sum(waves)).astype(np.float32)


def clip(seed: int, *, dancer: int | None = None, pixels: int = 100) -> Fingerprint:
    rng = np.random.default_rng([seed if dancer is None else dancer, 1])
    poses = dance(seed)
    look = rng.integers(1, 256, (1, 16, 16, 3)).astype(np.uint8)
    hashes = np.random.default_rng([seed, 2]).integers(0, 2**62, 10).astype(np.uint64)
    return Fingerprint(hashes, poses, look.repeat(len(poses), 0), pixels)


def changed(original: Fingerprint, poses: np.ndarray, pixels: int, *, mirror: bool = False) -> Fingerprint:
    """A copy whose poses were found anew: a little off, and with other hashes."""
    rng = np.random.default_rng(9)
    look = original.looks[:1, :, ::-1] if mirror else original.looks[:1]
    noisy = poses + rng.normal(0, 0.03, poses.shape).astype(np.float32)
    hashes = rng.integers(0, 2**62, 10).astype(np.uint64)
    return Fingerprint(hashes, noisy, look.repeat(len(poses), 0), pixels)


@pytest.fixture(scope="module")
def clips() -> list[Fingerprint]:
    return [clip(seed) for seed in range(12)]


def slowed(poses: np.ndarray) -> np.ndarray:
    return at(poses, np.arange(int(len(poses) / 0.8)) / RATE * 0.8)[: int((len(poses) - 1) / 0.8)]


@pytest.mark.parametrize(
    ("change", "mirror"),
    [(lambda poses: poses, False), (mirrored, True), (slowed, False), (lambda poses: poses[5:], False)],
    ids=["encoded again", "mirrored", "slowed", "cut"],
)
def test_a_copy_is_found(clips: list[Fingerprint], change, mirror: bool) -> None:
    copy = changed(clips[3], change(clips[3].poses), 50, mirror=mirror)
    assert duplicates([*clips, copy]) == [Duplicate(12, 3)]


def test_cropped_copies_are_found_by_what_they_show(clips: list[Fingerprint]) -> None:
    poses = clips[3].poses.copy()
    poses[:, 9:] = np.nan  # knees and ankles
    assert duplicates([*clips, changed(clips[3], poses, 50)]) == [Duplicate(12, 3)]


def test_the_largest_is_kept_and_of_equal_ones_the_first(clips: list[Fingerprint]) -> None:
    larger, equal = (changed(clips[3], clips[3].poses, pixels) for pixels in (200, 100))
    assert duplicates([*clips, equal]) == [Duplicate(12, 3)]
    assert duplicates([*clips, larger]) == [Duplicate(3, 12)]
    assert duplicates([*clips, equal, larger]) == [Duplicate(3, 13), Duplicate(12, 13)]


def test_copies_are_of_clips_that_are_fine(clips: list[Fingerprint]) -> None:
    """A larger copy with something wrong is a copy of the smaller one that is kept."""
    copy = changed(clips[3], clips[3].poses, 200)
    fine = [True] * 12
    assert duplicates([*clips, copy], [*fine, False]) == [Duplicate(12, 3)]
    fine[3] = False
    assert duplicates([*clips, copy], [*fine, True]) == [Duplicate(3, 12)]
    assert duplicates([*clips, copy], [*fine, False]) == []


def test_copies_of_somebody_who_hardly_moves_are_found_by_their_looks(clips: list[Fingerprint]) -> None:
    poses = (STANDING + 0.05 * (dance(30, 2.5) - STANDING)).astype(np.float32)
    slow = replace(clip(30), poses=poses, looks=clip(30).looks[: len(poses)])
    again = replace(clip(77), poses=mirrored(poses), looks=slow.looks[:, :, ::-1], pixels=50)
    assert len(moments(poses, 1.0)[0]) == 0
    assert duplicates([*clips, slow, again]) == [Duplicate(13, 12)]


def test_the_same_dance_by_another_dancer_is_no_copy(clips: list[Fingerprint]) -> None:
    assert duplicates([*clips, clip(3, dancer=77)]) == []


def test_the_same_dancer_with_another_dance_is_no_copy(clips: list[Fingerprint]) -> None:
    again = replace(clip(50, dancer=3), hashes=clips[3].hashes)
    assert duplicates([*clips, again]) == []


def test_one_clip_and_none_have_no_copies(clips: list[Fingerprint]) -> None:
    assert duplicates([]) == [] and duplicates(clips[:1]) == []


def test_poses_are_known_between_moments_and_nowhere_else() -> None:
    poses = dance(1)
    halfway = at(poses, np.array([0.5 / RATE]))
    assert np.allclose(halfway[0], (poses[0] + poses[1]) / 2, atol=1e-5)
    assert np.isnan(at(poses, np.array([-0.1, len(poses) / RATE]))).all()


def test_another_part_of_a_small_dance_is_no_copy() -> None:
    """The poses of somebody who hardly moves are near each other at any two times."""
    small = replace(clip(3), poses=STANDING.astype(np.float32) + 0.1 * (dance(3, 10)[:25] - STANDING))
    later = STANDING + 0.1 * (dance(3, 10)[25:] - STANDING)
    assert duplicates([small, changed(small, later.astype(np.float32), 50)]) == []


def test_the_line_of_time_of_a_slower_copy_is_found() -> None:
    poses = dance(5, 6)
    later = at(poses, 0.6 + np.arange(25) / RATE * 0.8)
    agreement, distance, shown, aligned = best_line(poses, later)
    assert agreement > 0.97 and distance < 0.08
    assert np.abs(0.6 + aligned / RATE * 0.8 - shown / RATE).max() <= 0.15


def test_a_hash_bears_other_sizes_and_tells_pictures_apart() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, 6, 4, 3)).astype(np.uint8)
    first, other = (each.repeat(32, 0).repeat(32, 1) for each in coarse)
    apart = [perceptual_hash(first) ^ perceptual_hash(picture) for picture in (first[::2, ::2], other)]
    assert apart[0].bit_count() <= 2 and apart[1].bit_count() > 15


def test_neither_dance_nor_looks_that_barely_agree_make_a_copy() -> None:
    """Each may be off where the other is sure; of many strangers some agree a little in both."""
    still = STANDING + 0.2 * (dance(3) - STANDING)
    rng = np.random.default_rng(4)
    nearly = still + rng.normal(0, 0.045, still.shape)
    look = rng.integers(1, 256, (1, 16, 16, 3)).astype(float)
    alike = 0.72 * (look - 128) + 0.36 * rng.normal(0, 74, look.shape) + 128

    def shown(poses: np.ndarray, picture: np.ndarray) -> Fingerprint:
        looks = picture.clip(1, 255).astype(np.uint8).repeat(len(poses), 0)
        return Fingerprint(np.zeros(1, np.uint64), poses.astype(np.float32), looks, 100)

    first = shown(still, look)
    agreement, distance, *_ = best_line(first.poses, nearly.astype(np.float32))
    assert 0.8 < agreement < 0.88 and distance < 0.06
    assert 0.87 < looks_alike(first.looks, shown(still, alike).looks, mirror=False) < 0.93
    assert is_copy(first, shown(nearly, look), mirror=False), "it hardly moves, and looks the same"
    assert is_copy(first, shown(still, alike), mirror=False), "it is poorly coded, and dances the same"
    assert not is_copy(first, shown(nearly, alike), mirror=False)

"""The measures of quality see what they are named for: error, place, colour, flicker, seams."""

import numpy as np
import pytest

from posedance.stages import quality


def scene(x=20, y=30, colour=(220, 40, 40)):
    """uint8 [1, 64, 48, 3]: a grey wall with one square of 8 pixels whose centre is (x, y)."""
    frames = np.full((1, 64, 48, 3), 128, np.uint8)
    frames[0, y - 4 : y + 4, x - 4 : x + 4] = colour
    return frames


def mask_of(frames):
    return (frames != 128).any(-1)


def find(frames, truth):
    masks = {"hand": mask_of(truth)}
    colours = quality.part_colours(truth, masks)
    return quality.find_parts(frames, colours, quality.background_colours(truth, ~masks["hand"], 1))["hand"]


def test_identical_frames_are_perfect():
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    assert quality.psnr(frames, frames) > 100
    assert quality.ssim(frames, frames) == pytest.approx(1)
    assert quality.flicker(frames, frames) == pytest.approx(1)


def test_psnr_is_what_its_name_says():
    black = np.zeros((1, 8, 8, 3), np.uint8)
    assert quality.psnr(black, black + 16) == pytest.approx(20 * np.log10(255 / 16), abs=1e-6)


def test_the_psnr_of_a_part_knows_nothing_of_the_rest():
    truth, near = scene(20, 30), scene(20, 30, (204, 24, 24))
    near[0, 60:] = 0
    assert quality.masked_psnr(near, truth, mask_of(truth)) == pytest.approx(
        20 * np.log10(255 / 16), abs=1e-6
    )
    assert np.isnan(quality.masked_psnr(near, truth, np.zeros_like(mask_of(truth))))


def test_a_ghost_is_what_stays_where_the_reference_stood():
    truth, reference = scene(20, 30), mask_of(scene(36, 30))[0]
    assert quality.ghost(truth, truth, mask_of(truth), reference) == 0
    assert quality.ghost(truth + 10, truth, mask_of(truth), reference) == 0  # as wrong elsewhere
    shade = truth.copy()
    shade[0, reference] -= 6
    assert quality.ghost(shade, truth, mask_of(truth), reference) == pytest.approx(6)


def test_a_part_is_found_where_its_colour_is():
    truth, moved = scene(20, 30), scene(26, 22)
    assert np.array_equal(find(truth, truth), mask_of(truth))
    errors = quality.position_errors(find(moved, truth)[0], [mask_of(truth)[0]])
    assert errors == [pytest.approx(10 / 64)]  # 6 and 8 pixels: 10 in all


def test_a_part_of_another_colour_counts_as_missing():
    truth, wrong = scene(), scene(colour=(40, 40, 220))
    assert quality.position_errors(find(wrong, truth)[0], [mask_of(truth)[0]]) == [quality.MISSING]


def test_sides_of_one_colour_are_told_apart_by_place():
    left, right = mask_of(scene(10, 30))[0], mask_of(scene(38, 30))[0]
    found = mask_of(scene(12, 30))[0] | mask_of(scene(38, 32))[0]
    assert quality.position_errors(found, [left, right]) == [pytest.approx(2 / 64), pytest.approx(2 / 64)]
    assert quality.position_errors(found, [left, np.zeros_like(left)])[0] > 2 / 64


def test_a_hit_needs_the_colour_at_the_place():
    truth = scene()[0]
    assert quality.hit(truth, truth, np.array([20, 30]))
    assert not quality.hit(scene(36, 50)[0], truth, np.array([20, 30]))


def test_flicker_is_seen():
    truth = np.stack([np.full((8, 8, 3), 100 + t, np.uint8) for t in range(6)])
    shaken = truth + np.array([0, 9, 0, 9, 0, 9], np.uint8)[:, None, None, None]
    truth[3] += 2
    assert quality.flicker(shaken, truth) > 3


def test_a_seam_is_seen_where_it_is():
    frames = np.stack([np.full((8, 8, 3), 10 * t, np.uint8) for t in range(9)])
    frames[5:] += 60
    assert quality.seam_score(frames, [5]) == pytest.approx(7)
    assert quality.seam_score(frames, [3]) == pytest.approx(1)
    assert quality.seam_score(frames, []) == 1

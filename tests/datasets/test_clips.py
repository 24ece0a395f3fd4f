"""Drawn training clips: reference and frames, control frames, clips kept on disk."""

from dataclasses import replace

import numpy as np
import pytest

from posedance.datasets.clips import (
    HELD_OUT,
    ClipSpec,
    PuppetClips,
    draw_clip,
    loss_weights,
    palette_of,
)
from posedance.datasets.puppets.render import PARTS
from posedance.stages.pixels import to_signed, to_unit

SPEC = ClipSpec(width=36, height=64, canvas=216, frames=2, spacing=0)


@pytest.fixture(scope="module")
def clip():
    return draw_clip(SPEC, character_seed=3, motion_seed=4, noise_seed=5)


def test_a_clip_is_a_reference_and_its_frames(clip):
    assert clip.frames.shape == clip.control.shape == (3, 64, 36, 3)
    assert clip.frames.dtype == clip.control.dtype == clip.parts.dtype == np.uint8
    assert clip.palette.shape == (len(PARTS), 4)


def test_control_frames_show_the_figure_and_nothing_else(clip):
    for control, parts in zip(clip.control, clip.parts, strict=True):
        drawn = control.max(-1) > 60
        assert drawn.any()
        assert (drawn & (parts > 0)).sum() > 0.6 * drawn.sum()


def test_equal_seeds_draw_equal_clips(clip):
    again = draw_clip(SPEC, 3, 4, 5)
    assert np.array_equal(clip.frames, again.frames)
    assert np.array_equal(clip.control, again.control)
    assert not np.array_equal(clip.control, draw_clip(SPEC, 3, 4, None).control)


def test_a_kept_clip_is_the_drawn_one(tmp_path):
    drawn = PuppetClips(SPEC, 4, seed=1)[2]
    kept = PuppetClips(SPEC, 4, seed=1, cache=tmp_path)
    first, second = kept[2], kept[2]
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    for made in (first, second):
        assert made.number == 2
        assert np.array_equal(made.frames, drawn.frames)
        assert np.array_equal(made.palette, drawn.palette)


@pytest.mark.parametrize("left", [0, 100, -100])
def test_a_kept_clip_that_is_torn_is_drawn_again(tmp_path, left):
    kept = PuppetClips(SPEC, 4, seed=1, cache=tmp_path)
    drawn = kept[2]
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:left])
    assert np.array_equal(kept[2].frames, drawn.frames)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert np.array_equal(np.load(path)["frames"], drawn.frames)


def test_other_settings_do_not_share_kept_clips(tmp_path):
    folders = {
        PuppetClips(SPEC, 4, 1, tmp_path).folder,
        PuppetClips(SPEC, 4, 2, tmp_path).folder,
        PuppetClips(SPEC, 4, 1, tmp_path, first=HELD_OUT).folder,
        PuppetClips(ClipSpec(36, 64, 108, 2, 0), 4, 1, tmp_path).folder,
        PuppetClips(replace(SPEC, half_body=0.5), 4, 1, tmp_path).folder,
        PuppetClips(replace(SPEC, elsewhere=0.5), 4, 1, tmp_path).folder,
        PuppetClips(replace(SPEC, half_body=0.5, elsewhere=0.5), 4, 1, tmp_path).folder,
    }
    assert len(folders) == 7


def test_a_reference_from_elsewhere_changes_nothing_but_the_reference():
    here, elsewhere = (draw_clip(replace(SPEC, elsewhere=share), 3, 4, 5) for share in (0.0, 1.0))
    np.testing.assert_array_equal(here.frames[1:], elsewhere.frames[1:])
    figures = [clip.parts[0] > 0 for clip in (here, elsewhere)]
    assert (figures[0] & figures[1]).sum() < 0.8 * figures[0].sum()
    rest = ~np.logical_or(*figures)
    assert np.abs(here.frames[0][rest].astype(int) - elsewhere.frames[0][rest]).mean() < 3, "the same room"


def test_small_parts_weigh_most():
    parts = np.zeros((1, 20, 20), np.uint8)
    parts[0, 5:15, 5:15] = PARTS.index("torso")
    parts[0, 9, 9] = PARTS.index("left_hand")
    weights = loss_weights(parts, body=2, face=3, small=6, reach=1)[0]
    assert weights[0, 0] == 1
    assert weights[4, 5] == weights[6, 6] == 2
    assert weights[8:11, 8:11].min() == 6


def test_a_palette_says_what_is_seen():
    parts = np.full((10, 10), PARTS.index("torso"), np.uint8)
    palette = palette_of(dict.fromkeys(PARTS, (255, 0, 51)), parts)
    assert palette[PARTS.index("torso")].tolist() == pytest.approx([1, 0, 0.2, 1])
    assert palette[PARTS.index("hair"), 3] == 0


def test_pictures_become_tensors(clip):
    assert to_signed(clip.frames).shape == (3, 3, 64, 36)
    assert to_signed(np.array([[[0, 255, 255]]], np.uint8)).flatten().tolist() == [-1, 1, 1]
    assert to_unit(np.array([[[0, 255, 51]]], np.uint8)).flatten().tolist() == pytest.approx([0, 1, 0.2])

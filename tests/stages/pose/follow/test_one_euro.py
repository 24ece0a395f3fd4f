"""The One-Euro filter in both directions: less trembling, no lag, peaks kept, alike at every frame rate."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.pose.follow.one_euro import Cutoff, one_euro

CUTOFF = Cutoff(3, 5)


def swing(times: np.ndarray, hertz: float) -> np.ndarray:
    """A point that swings by 0.3 body heights to either side: [T, 1, 2]."""
    return np.stack([0.3 * np.sin(2 * np.pi * hertz * times), 0.1 * times], -1)[:, None]


def trembling(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(values, 2, axis=0), axis=-1).mean())


@pytest.mark.parametrize(("fps", "most"), [(60, 0.25), (30, 0.45)])
def test_what_rests_trembles_less(fps: int, most: float):
    noise = np.random.default_rng(0).normal(0, 0.002, (20 * fps, 21, 2))
    assert trembling(one_euro(noise, Fraction(fps), CUTOFF)) < most * trembling(noise)


@pytest.mark.parametrize("hertz", [0.5, 1.0, 2.0])
def test_what_moves_fast_neither_lags_nor_loses_its_peaks(hertz: float):
    values = swing(np.arange(120) / 30, hertz)
    smooth = one_euro(values, Fraction(30), CUTOFF)
    way = np.arange(-0.5, 0.51, 0.01)
    off = [np.abs(smooth[10:-10] - swing((np.arange(10, 110) - late) / 30, hertz)).sum() for late in way]
    assert abs(way[int(np.argmin(off))]) < 0.05
    assert smooth[..., 0].max() > 0.985 * values[..., 0].max()


def test_what_moves_evenly_is_left_alone_up_to_the_ends():
    values = np.linspace((0, 0), (3, 1), 40)[:, None]
    np.testing.assert_allclose(one_euro(values, Fraction(30), CUTOFF), values, atol=1e-4)


def test_the_same_dance_at_other_frame_rates_comes_out_the_same():
    smooth = {
        fps: one_euro(swing(np.arange(4 * fps) / fps, 1.0), Fraction(fps), Cutoff(1, 2))[:: fps // 15]
        for fps in (15, 30, 60)
    }
    for fps, most in ((15, 0.006), (60, 0.004)):
        np.testing.assert_allclose(smooth[fps][8:-8], smooth[30][8:-8], atol=most)


def test_a_few_frames_are_no_matter():
    for frames in range(5):
        values = np.arange(frames * 2.0).reshape(frames, 1, 2)
        np.testing.assert_allclose(one_euro(values, Fraction(30), CUTOFF), values, atol=1e-4)

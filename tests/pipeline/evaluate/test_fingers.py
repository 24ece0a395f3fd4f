"""Fingertips in a result: found where they are, missing where there is no hand."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.evaluate.fingers import compare_fingertips, finger_figures


def test_fingertips_are_compared_where_both_have_the_hand() -> None:
    true = np.zeros((4, 5, 2), np.float32)
    true[3] = np.nan
    made = true + np.float32((0.03, 0.04))
    made[1, 2] = np.nan
    made[3] = 0
    figures = compare_fingertips(made, true)
    assert figures == {"hands_found": pytest.approx(2 / 3), "finger_error_percent": pytest.approx(5)}


def test_nothing_to_compare_is_no_number() -> None:
    none = np.full((2, 5, 2), np.nan)
    assert all(np.isnan(value) for value in compare_fingertips(none, none).values())
    assert compare_fingertips(none, np.zeros((2, 5, 2)))["hands_found"] == 0


def test_a_drawn_dancers_fingers_are_found_and_a_blurred_ones_are_not() -> None:
    character, motion = make_character(7), make_motion(7, Fraction(15))
    frames = np.stack([render(character, motion, t, 216, 384).image for t in (0, 12, 24, 36)])
    same = finger_figures([frames], [frames])
    assert same == {"hands_found": 1, "finger_error_percent": 0}
    moved = finger_figures([np.roll(frames, 8, axis=1)], [frames])
    assert moved["hands_found"] > 0.5 and moved["finger_error_percent"] == pytest.approx(
        100 * 8 / 384, abs=0.5
    )
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 12) for frame in frames])
    assert finger_figures([blurred], [frames])["hands_found"] < 0.5

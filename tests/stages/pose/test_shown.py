"""Which parts of the body a dance shows."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.pose.shown import hidden_parts, listed
from posedance.stages.types import PoseSequence

SIZE = (100, 200)


def person(frames: int = 10) -> tuple[np.ndarray, np.ndarray]:
    return np.full((frames, 133, 2), 50, np.float32), np.ones((frames, 133), np.float32)


def hidden(points: np.ndarray, scores: np.ndarray) -> list[str]:
    return hidden_parts(PoseSequence(points, scores, SIZE, Fraction(15)))


def test_a_whole_body_hides_nothing():
    assert hidden(*person()) == []


def test_parts_below_the_picture_are_hidden_however_sure_they_are():
    points, scores = person()
    points[:, 13:17, 1] = 210
    assert hidden(points, scores) == ["knees", "feet"]


def test_parts_that_are_never_found_are_hidden_and_those_of_one_side_are_not():
    points, scores = person()
    scores[:, 91:] = 0.2
    scores[:, [5, 13]] = 0
    assert hidden(points, scores) == ["hands"]


def test_frames_without_a_person_do_not_count():
    points, scores = person(20)
    scores[:15] = 0
    scores[15:17, 15:17] = 0
    assert hidden(points, scores) == []
    assert hidden(points, 0 * scores) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["feet"], "feet"),
        (["knees", "feet"], "knees and feet"),
        (["hips", "knees", "feet"], "hips, knees and feet"),
    ],
)
def test_names_are_listed_as_in_a_sentence(names, text):
    assert listed(names) == text

"""Photographs are told from drawn dancers."""

from pathlib import Path

import pytest

from posedance.datasets.puppets.render import make_character, reference_pose, render
from posedance.stages.media.photograph import is_photograph
from posedance.stages.media.picture import read_picture

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"


def test_drawn_dancers_are_none() -> None:
    for number in range(8):
        assert not is_photograph(render(make_character(number), reference_pose(number), 0, 144, 256).image)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of photographs, shared/samples, is not here")
def test_photographs_and_rich_paintings_are() -> None:
    pictures = [*SAMPLES.glob("ref_*"), *(SAMPLES / "coco_wholebody").rglob("*.jpg")]
    assert len(pictures) >= 8 and all(is_photograph(read_picture(path)) for path in pictures)

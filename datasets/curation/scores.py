"""The table of scores: one row for each filter, cheap first; a clip's reason is the first that refuses it.

To add one: a function of a level's evidence, and a row in SCORES. Its name becomes the column `score_NAME`
and the key `thresholds.NAME`. The default thresholds were chosen on the proof set (docs/curation.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from . import dance, technical, text
from .people import alone, person

Level = Literal["probe", "frames", "sparse", "dense"]
LEVELS: tuple[Level, ...] = ("probe", "frames", "sparse", "dense")
"""In the order in which they are measured: each costs more than the one before."""


@dataclass(frozen=True, slots=True)
class Score:
    """One filter.

    `measure` takes the evidence of `level` (Probe, Frames, SparsePoses, DensePoses) and gives one number or a
    bool. A clip is refused below `at_least` and above `at_most`; None is no bound. `says` is the reason in
    words. `needs` names the module of an extra without which it is not measured.
    """

    name: str
    level: Level
    measure: Callable[[Any], float | bool]
    at_least: float | None
    at_most: float | None
    says: str
    needs: str | None = None

    def available(self) -> bool:
        """Whether it can be measured here."""
        return self.needs is None or find_spec(self.needs) is not None


def refuses(value: float | bool, at_least: float | None, at_most: float | None) -> bool:
    """Whether a score lies outside the bounds. NaN lies outside any."""
    return (at_least is not None and not value >= at_least) or (at_most is not None and not value <= at_most)


SCORES: tuple[Score, ...] = (
    Score("damaged", "probe", technical.damaged, None, 0, "damaged"),
    Score("duration", "probe", technical.duration, 2.0, None, "too short"),
    Score("size", "probe", technical.size, 256, None, "too small a picture"),
    Score("fps", "probe", technical.fps, 14.5, None, "too few frames a second"),
    Score("black", "frames", technical.black, None, 0.05, "black picture"),
    Score("exposure", "frames", technical.exposure, 40, 225, "too dark or too bright"),
    Score("frozen", "frames", technical.frozen, None, 0.5, "frozen picture"),
    Score("camera", "frames", technical.camera, None, 0.4, "camera moves too fast"),
    Score("slideshow", "frames", technical.slideshow, None, 0.5, "one picture, moved as a whole"),
    Score("distinct_fps", "frames", technical.distinct_fps, 14.5, None, "frames repeated to a higher rate"),
    Score("sharpness", "frames", technical.sharp, 0.48, None, "blurred"),
    Score("text", "frames", text.text, None, 0.02, "burnt-in text", needs="rapidocr"),
    Score("person", "sparse", person, 0.8, None, "nobody, or not for long enough"),
    Score("alone", "sparse", alone, 0.8, None, "several people"),
    Score("body", "dense", dance.body, 0.9, None, "body not seen throughout"),
    Score("inside", "dense", dance.inside, 0.7, None, "body cut off by the frame"),
    Score("confidence", "dense", dance.confidence, 0.75, None, "pose not sure"),
    Score("person_size", "dense", dance.person_size, 0.3, None, "person too small"),
    Score("motion", "dense", dance.motion, 0.05, None, "the person hardly moves"),
    Score("face", "dense", dance.face, 0.08, None, "face not seen"),
    Score("left_hand", "dense", dance.left_hand, 0.3, None, "left hand hidden"),
    Score("right_hand", "dense", dance.right_hand, 0.3, None, "right hand hidden"),
    Score("hand_sharpness", "dense", dance.hand_sharpness, 0.39, None, "hands blurred"),
    Score("jitter", "dense", dance.jitter, None, 0.65, "pose jitters"),
)

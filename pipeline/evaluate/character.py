"""Measure a painter of characters on held-out dancers and poses: `run.py evaluate character`.

It is asked in words for a dancer that it has never seen, in a pose that it has never seen. The pose is found
again in what it paints, and the colours are looked for where the true drawing has them. The edges of what it
paints are compared with the true drawing's, which is what it follows where it is asked to.
"""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from ...datasets.clips import HELD_OUT, SUPERSAMPLING, poses_of
from ...datasets.puppets.render import PARTS, make_character, make_motion, render
from ...datasets.puppets.words import COLOURS, NOUNS, Look, describe_look, look_of
from ...stages.errors import PoseError
from ...stages.image.conditions import canny, edges_agree
from ...stages.image.models import defaults_of
from ...stages.media.picture import write_png
from ...stages.pose.base import PoseEstimator
from ...stages.pose.follow.choose import pose_error
from ...stages.pose.follow.track import estimate_picture
from ...stages.pose.render import draw_control_frames
from ...stages.quality import lab
from ...stages.types import PoseSequence
from ..animate.tools import opened
from ..character.options import CharacterOptions
from ..character.painter import parts_of
from ..config import EstimatorConfig, JsonFile
from ..config_base import Config
from ..progress import stage
from .figures import log_figures, write_figures

FPS = Fraction(15)
MOMENTS = 600
NEAR = 0.05
"""Pose errors up to this, in picture heights, count as found again."""
AMONG = 2
"""A colour is right where the asked name is one of this many nearest: light and shade change them."""
FEWEST = 6
"""Pixels in which a colour is looked for."""
PLACES: dict[str, tuple[str, ...]] = {
    "hair": ("hair",),
    "top": ("torso", "left_sleeve", "right_sleeve"),
    "bottom": ("hips", "left_leg", "right_leg"),
    "shoes": ("left_shoe", "right_shoe"),
    "wall": ("background",),
}
"""Parts whose colour a noun names; of the background its upper half."""


class EvaluateCharacterConfig(Config):
    """What is measured."""

    base: str | None = None
    """Folder of a painter [default: the shipped one]."""
    condition: Literal["pose", "canny"] = "pose"
    """What it follows: the drawn pose, or the edges of the true drawing."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides dancers, poses and noise."""
    pictures: Annotated[int, Field(ge=2)] = 50
    """How many are painted, each of another dancer in another pose."""
    width: Annotated[int | None, Field(ge=64, multiple_of=16)] = None
    """Width of the pictures in pixels [default: the model's]."""
    height: Annotated[int | None, Field(ge=64, multiple_of=16)] = None
    """Height of the pictures in pixels [default: the model's]."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Denoising steps [default: the model's]."""
    guidance_scale: Annotated[float | None, Field(ge=0)] = None
    """How strongly the prompt is followed [default: the model's]."""
    estimator: EstimatorConfig = EstimatorConfig()
    json_file: JsonFile = None
    """File that gets the figures."""
    sheet: Path | None = None
    """Where to write the first pictures (PNG): the true drawing, the pose, what was painted."""


class Wanted:
    """A held-out dancer in a held-out pose: what is asked for, and the true drawing of it."""

    def __init__(self, seed: int, number: int, size: tuple[int, int], canvas: int) -> None:
        rng = np.random.default_rng([seed, number, 17])
        who, what = (HELD_OUT + int(n) for n in rng.integers(0, HELD_OUT, 2))
        character = make_character(who)
        large = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        drawn = render(character, make_motion(what, FPS), int(rng.integers(MOMENTS)), *large)
        self.look: Look = look_of(character)
        self.truth = cv2.resize(drawn.image, size, interpolation=cv2.INTER_AREA)
        self.parts = drawn.parts[::SUPERSAMPLING, ::SUPERSAMPLING]
        self.pose: PoseSequence = poses_of([drawn], large, FPS)
        self.drawn_pose = next(iter(draw_control_frames(self.pose, *size, canvas)))
        self.edges = canny(self.truth)

    def shown(self, condition: str) -> np.ndarray:
        """What is followed, uint8 [H, W, 3]."""
        return self.edges if condition == "canny" else self.drawn_pose

    def ranks(self, picture: np.ndarray, look: Look | None = None) -> dict[str, int]:
        """How many names are nearer than the asked one to the median colour of each place that is seen."""
        look = look or self.look
        table = lab(np.array(list(COLOURS.values()), np.uint8))
        found = {}
        for noun in NOUNS:
            place = np.isin(self.parts, [PARTS.index(part) for part in PLACES[noun]])
            if noun == "wall":
                place[len(place) // 2 :] = False
            if place.sum() >= FEWEST:
                colour = lab(np.median(picture[place], axis=0)[None].round().astype(np.uint8))
                nearest = np.linalg.norm(table - colour, axis=1).argsort()
                asked = list(COLOURS).index(look.colours[noun])
                found[noun] = int(np.flatnonzero(nearest == asked)[0])
        return found


def evaluate_character(config: EvaluateCharacterConfig) -> dict[str, Any]:
    """Figures of a painter; says them as a table, writes JSON and a sheet if asked."""
    from ...stages.image.api import load_pictures
    from ...stages.image.conditions import to_tensor
    from ...stages.image.paint import PaintSettings, paint

    asked = defaults_of("character", config.base)
    size = config.width or int(asked["width"]), config.height or int(asked["height"])
    steps = config.steps or int(asked["steps"])
    guidance = asked["guidance_scale"] if config.guidance_scale is None else config.guidance_scale
    parts = parts_of(CharacterOptions(base=config.base, condition=config.condition), "character")
    weights = [] if parts.unet is None else [parts.unet]
    pipeline, module = load_pictures(parts.base, parts.controlnext, weights)
    wanted = [Wanted(config.seed, number, size, int(asked["canvas"])) for number in range(config.pictures)]

    def painted(scale: float) -> list[np.ndarray]:
        pictures = []
        with stage("evaluate", len(wanted), "picture") as done:
            for number, one in enumerate(wanted):
                settings = PaintSettings(describe_look(one.look), "", steps, guidance, scale, 1.0)
                shown = to_tensor(one.shown(config.condition))
                pictures.append(paint(pipeline, module, shown, settings, config.seed + number))
                done(1)
        return pictures

    made = painted(1.0)
    with opened(config.estimator) as estimator:
        found = [error_of(picture, one, estimator) for picture, one in zip(made, wanted, strict=True)]
    figures = measure(wanted, made, found)
    if config.condition == "canny":
        figures["edges_agree_without_control"] = edges_of(wanted, painted(0.0))
    figures |= {
        "condition": config.condition,
        "seed": config.seed,
        "pictures": config.pictures,
        "steps": steps,
        "guidance_scale": guidance,
    }
    log_figures(figures)
    write_figures(config.json_file, figures)
    if config.sheet is not None:
        write_png(config.sheet, sheet(wanted, made, config.condition))
    return figures


def error_of(picture: np.ndarray, wanted: Wanted, estimator: PoseEstimator) -> float | None:
    """How far the pose that is found in a picture is from the asked one, in heights; None without any."""
    try:
        found, _ = estimate_picture(picture, estimator, min_score=0.3, name="the picture")
    except PoseError:
        return None
    return pose_error(found, wanted.pose)


def measure(wanted: list[Wanted], made: list[np.ndarray], found: list[float | None]) -> dict[str, Any]:
    """Shares of poses found again and of colours right, and of the true drawings' and for other prompts.

    Poses are right within NEAR; colours where the asked name is among the AMONG nearest.
    """
    errors = [error for error in found if error is not None]
    ranks = [one.ranks(picture) for one, picture in zip(wanted, made, strict=True)]
    truths = [one.ranks(one.truth) for one in wanted]
    others = [one.ranks(made[i], wanted[i - 1].look) for i, one in enumerate(wanted)]
    return {
        "pose_right": float(np.mean([error is not None and error <= NEAR for error in found])),
        "pose_error_percent": 100 * float(np.median(errors)) if errors else float("nan"),
        "nobody_found": float(np.mean([error is None for error in found])),
        "colours_right": right(ranks, AMONG),
        "colours_right_of_truth": right(truths, AMONG),
        "colours_right_of_other_prompts": right(others, AMONG),
        "colours_nearest": right(ranks, 1),
        "colours_nearest_of_truth": right(truths, 1),
        "edges_agree": edges_of(wanted, made),
        "edges_agree_with_others": edges_of(wanted[-1:] + wanted[:-1], made),
        **{
            f"colours_right_{noun}": right([{noun: r[noun]} for r in ranks if noun in r], AMONG)
            for noun in NOUNS
        },
    }


def edges_of(wanted: list[Wanted], made: list[np.ndarray]) -> float:
    """Mean agreement (F1) of the edges of pictures with those of the true drawings."""
    pairs = zip(wanted, made, strict=True)
    return float(np.mean([edges_agree(canny(picture), one.edges) for one, picture in pairs]))


def right(ranks: list[dict[str, int]], among: int) -> float:
    """The share of all colours whose asked name is among so many nearest."""
    each = [rank < among for one in ranks for rank in one.values()]
    return float(np.mean(each)) if each else float("nan")


def sheet(
    wanted: list[Wanted], made: list[np.ndarray], condition: str, count: int = 24, columns: int = 8
) -> np.ndarray:
    """uint8 RGB: the true drawing, what is followed and the painted picture of the first, in rows."""
    cells = [
        np.concatenate([one.truth, one.shown(condition), picture], axis=1)
        for one, picture in zip(wanted[:count], made[:count], strict=True)
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)

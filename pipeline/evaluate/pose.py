"""Measure a pose estimator on drawn dancers, whose every keypoint is known: `run.py evaluate pose`."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...datasets.clips import HELD_OUT
from ...datasets.puppets.render import make_character, make_motion, render
from ...stages.pose.track import estimate_poses
from ...stages.types import PoseSequence
from ..animate.tools import opened
from ..config import EstimatorConfig, JsonFile
from ..config_base import Config
from ..progress import stage
from .figures import log_figures, write_figures

FPS = Fraction(30)
GROUPS = {
    "body": (slice(0, 17),),
    "feet": (slice(17, 23),),
    "face": (slice(23, 91),),
    "hands": (slice(91, 112), slice(112, 133)),
}
"""Places among the 133 keypoints; each hand counts by itself."""
SEEN = 1.0
"""Score of a true keypoint that nothing covers."""
HALF = 0.5


class EvaluatePoseConfig(Config):
    """What is measured."""

    estimator: EstimatorConfig = EstimatorConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides characters and motions."""
    clips: Annotated[int, Field(ge=1)] = 8
    """Characters, each with one motion."""
    frames: Annotated[int, Field(ge=1)] = 30
    """Frames of each clip, 30 a second."""
    width: Annotated[int, Field(ge=64)] = 576
    """Width in pixels."""
    height: Annotated[int, Field(ge=64)] = 1024
    """Height in pixels."""
    json_file: JsonFile = None
    """File that gets the figures."""


def evaluate_pose(config: EvaluatePoseConfig) -> dict[str, Any]:
    """Figures of an estimator; says them as a table, writes JSON if asked."""
    found, truths = [], []
    with opened(config.estimator) as estimator, stage("evaluate", config.clips, "clip") as done:
        for number in range(config.clips):
            truth: list[tuple[np.ndarray, np.ndarray]] = []
            poses, _ = estimate_poses(
                drawn_frames(config, number, truth),
                estimator,
                fps=FPS,
                min_score=config.estimator.min_score,
                max_gap=config.estimator.max_gap,
                name=f"clip {number}",
            )
            found.append(poses)
            keypoints, scores = (np.stack(values) for values in zip(*truth, strict=True))
            truths.append(PoseSequence(keypoints, scores, poses.size, FPS))
            done(1)
    figures = measure_poses(found, truths)
    figures |= {"estimator": config.estimator.name, "seed": config.seed, "clips": config.clips}
    figures |= {"frames": config.frames, "width": config.width, "height": config.height}
    log_figures(figures)
    write_figures(config.json_file, figures)
    return figures


def drawn_frames(
    config: EvaluatePoseConfig, number: int, truth: list[tuple[np.ndarray, np.ndarray]]
) -> Iterator[np.ndarray]:
    """Frames of a clip, uint8 [H, W, 3]; `truth` receives keypoints [133, 2] and scores [133] of each."""
    rng = np.random.default_rng([config.seed, number, 12])
    character, motion = (HELD_OUT + int(n) for n in rng.integers(0, HELD_OUT, 2))
    drawing = make_character(character), make_motion(motion, FPS)
    for frame in range(config.frames):
        drawn = render(*drawing, frame, config.width, config.height)
        truth.append((drawn.keypoints, drawn.scores))
        yield drawn.image


def measure_poses(found: list[PoseSequence], truths: list[PoseSequence]) -> dict[str, Any]:
    """For each group: in what part of the frames that show it it was found, and the error in % of height.

    A frame shows a group where at least half of its keypoints are in the picture and not covered; it is found
    there when at least half of these have a score. Distances are medians over the keypoints that are seen and
    found.
    """
    shown: dict[str, list[bool]] = {name: [] for name in GROUPS}
    errors: dict[str, list[np.ndarray]] = {name: [] for name in GROUPS}
    for poses, truth in zip(found, truths, strict=True):
        seen, scored = truth.scores >= SEEN, poses.scores > 0
        distances = np.linalg.norm(poses.keypoints - truth.keypoints, axis=-1) / truth.size[1]
        for name, members in GROUPS.items():
            for member in members:
                visible, both = seen[:, member], seen[:, member] & scored[:, member]
                frames = visible.mean(1) >= HALF
                shown[name] += (both.sum(1) >= HALF * visible.sum(1))[frames].tolist()
                errors[name].append(distances[:, member][both])
    figures: dict[str, Any] = {}
    for name in GROUPS:
        off = np.concatenate(errors[name])
        figures[f"{name}_shown"] = len(shown[name])
        figures[f"{name}_found_percent"] = 100 * float(np.mean(shown[name])) if shown[name] else float("nan")
        figures[f"{name}_error_percent"] = 100 * float(np.median(off)) if len(off) else float("nan")
    return figures

"""Measure pose estimators where every keypoint is known: `run.py evaluate pose`.

On drawn dancers, as found and made steady; or on real pictures with annotations.
"""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...datasets.clips import HELD_OUT
from ...datasets.puppets.render import make_character, make_motion, render
from ...stages.errors import ConfigError
from ...stages.pose.base import PoseEstimator
from ...stages.pose.estimators import ESTIMATORS
from ...stages.pose.follow.steady import body_height, steady
from ...stages.pose.follow.track import estimate_poses
from ...stages.types import PoseSequence
from ..animate.tools import estimator_of, opened
from ..config import EstimatorConfig, JsonFile
from ..config_base import Config
from ..progress import stage
from .figures import write_figures
from .pose_figures import Case, Figures, figures_of, of_stills
from .pose_pictures import look_at, read_people

logger = logging.getLogger(__name__)

FPS = Fraction(30)
FOUND, STEADY = "found", "steady"
"""Poses as an estimator finds them, and made steady."""
OWN = {"name", "model", "detector"}
"""Options of one estimator: where one is given, the others are not measured."""


class EvaluatePoseConfig(Config):
    """What is measured."""

    estimator: EstimatorConfig = EstimatorConfig()
    annotations: Path | None = None
    """COCO-WholeBody's annotations (.json) of real pictures, to be measured in place of drawn dancers."""
    images: Path | None = None
    """Folder of their pictures."""
    smooth: Annotated[float, Field(gt=0, le=10)] = 1.0
    """How strongly poses are made steady."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides characters and motions."""
    clips: Annotated[int, Field(ge=1)] = 8
    """Characters, each with one motion."""
    frames: Annotated[int, Field(ge=1)] = 60
    """Frames of each clip, 30 a second."""
    width: Annotated[int, Field(ge=64)] = 576
    """Width in pixels."""
    height: Annotated[int, Field(ge=64)] = 1024
    """Height in pixels."""
    json_file: JsonFile = None
    """File that gets the figures."""


def evaluate_pose(config: EvaluatePoseConfig) -> dict[str, Any]:
    """Figures of the estimator that is named, or of each that runs here; a table, and JSON if asked.

    For each estimator those of what it finds, and of drawn dancers also of that made steady: see
    `figures_of`. Raises ConfigError where one of annotations and images is missing, PoseError for such that
    cannot be read and for an estimator that cannot run.
    """
    chosen, unusable = estimators(config.estimator)
    figures: dict[str, Any] = {"smooth": config.smooth}
    if config.annotations is not None or config.images is not None:
        if config.annotations is None or config.images is None:
            raise ConfigError(
                "--annotations and --images go together: give the file and the pictures' folder"
            )
        people, left_out = read_people(config.annotations, config.images)
        figures = {"people": len(people), "people_left_out": left_out, "estimators": {}}
        for one in chosen:
            with opened(one) as estimator, stage(f"evaluate {one.name}", len(people), "person") as done:
                cases = []
                for person in people:
                    cases.append(look_at(person, estimator))
                    done(1)
            figures["estimators"][one.name] = {FOUND: of_stills(figures_of(cases))}
    else:
        names = ("smooth", "seed", "clips", "frames", "width", "height")
        figures = {name: getattr(config, name) for name in names} | {"estimators": {}}
        for one in chosen:
            with opened(one) as estimator:
                figures["estimators"][one.name] = on_drawn_dancers(config, one, estimator)
    figures["unusable"] = unusable
    for line in table_of(figures):
        logger.info(line)
    write_figures(config.json_file, figures)
    return figures


def estimators(named: EstimatorConfig) -> tuple[list[EstimatorConfig], dict[str, str]]:
    """Those to measure, and why the others cannot run here."""
    if named.model_fields_set & OWN:
        return [named], {}
    every = [named.model_copy(update={"name": name}) for name in ESTIMATORS]
    reasons = {one.name: estimator_of(one).missing() for one in every}
    usable = [one for one in every if reasons[one.name] is None]
    return usable or [named], {name: reason for name, reason in reasons.items() if reason is not None}


def on_drawn_dancers(
    config: EvaluatePoseConfig, options: EstimatorConfig, estimator: PoseEstimator
) -> dict[str, Figures]:
    """The figures of what an estimator finds of drawn dancers, and of the same made steady."""
    found, better = [], []
    with stage(f"evaluate {options.name}", config.clips, "clip") as done:
        for number in range(config.clips):
            known: list[tuple[np.ndarray, np.ndarray]] = []
            raw, _ = estimate_poses(
                drawn_frames(config, number, known),
                estimator,
                fps=FPS,
                min_score=options.min_score,
                max_gap=0,
                smooth=0,
                name=f"clip {number}",
            )
            keypoints, scores = (np.stack(values) for values in zip(*known, strict=True))
            truth = PoseSequence(keypoints, scores, raw.size, FPS)
            height, compared = body_height(truth), raw.scores > 0
            found.append(Case(raw, truth, height, compared))
            better.append(Case(steady(raw, options.max_gap, config.smooth), truth, height, compared))
            done(1)
    return {FOUND: figures_of(found), STEADY: figures_of(better)}


def table_of(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as lines: a row for each, a column for each estimator as found and made steady."""
    columns = {
        f"{name} {kind}": values
        for name, kinds in figures["estimators"].items()
        for kind, values in kinds.items()
    }
    for name, value in figures.items():
        if name not in ("estimators", "unusable"):
            yield f"{name:<26}{value:>18g}"
    yield f"{'':<26}" + "".join(f"{name:>18}" for name in columns)
    for name in next(iter(columns.values())):
        values = [column[name] for column in columns.values()]
        yield f"{name:<26}" + "".join(f"{'-' if v is None else format(v, '.3f'):>18}" for v in values)
    for name, reason in figures["unusable"].items():
        yield f"not measured: {name}, {reason}"


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

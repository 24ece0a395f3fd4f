"""Pictures of somebody as a dance has it, one for each seed; that which follows most truly is the reference.

A stopped run goes on with the seeds that are not done, and more seeds paint only the new ones.
"""

import hashlib
import json
import logging
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ...stages.errors import ConfigError
from ...stages.image.models import Task
from ...stages.media.picture import place, read_picture, write_png
from ...stages.media.placement import centre_crop
from ...stages.pose.base import PoseEstimator
from ...stages.types import PoseSequence
from ..config import EstimatorConfig
from ..interrupts import end_here
from ..job.job import Job, key_of, source_digest, write_text
from ..job.storage import localize
from ..progress import stage
from .following import Dance, Followed, errors_of, followed_edges, followed_pose
from .options import CharacterOptions, PaintingConfig
from .painter import PLACES, Painter, settled, weights_of

logger = logging.getLogger(__name__)

NEAR = 0.05
"""Pose errors above this, in picture heights, are said: such a picture does not stand as the dancer does."""
WORD_PARTS = 1000
"""A tokenizer of fewer tokens has whole words and letters, and no parts of words as CLIP's 49,408 have."""
RESULTS = ("reference.png", "sheet.png", "character.json")
"""The picture, all of them side by side with the pose and their errors, and how they were made."""
OWN = set(CharacterOptions.model_fields) - PLACES - {"picture", "control"}
"""Options that are recorded as they are; of files the content counts."""


class Opens(Protocol):
    """What opens the estimator and the model: `animate.tools.Tools`."""

    def estimator(self, options: EstimatorConfig) -> AbstractContextManager[PoseEstimator]: ...

    def painter(self, options: PaintingConfig, task: Task, device: str, precision: str | None) -> Painter: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The reference image that is asked for; `size` is (width, height) in pixels."""

    options: CharacterOptions
    prompt: str
    size: tuple[int, int]
    estimator: EstimatorConfig
    device: str
    precision: str | None
    dance: Dance | None = None
    """Whose frame's edges are followed where no picture of them is given."""

    def seeds(self) -> range:
        """The seed of each picture."""
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def decided_by(self) -> dict[str, Any]:
        """All that decides the pictures but for the pose and the seeds, as plain data."""
        options = settled(self.options, "character")
        picture, control = options.picture, options.control
        edges = options.condition == "canny" and control is None
        if edges and self.dance is None:
            raise ConfigError("canny follows the edges of a picture: name it with control")
        return {
            "prompt": self.prompt,
            "options": options.model_dump(mode="json", include=OWN - {"seed", "seeds", "frame"}),
            "size": list(self.size),
            "picture": None if picture is None else source_digest(picture),
            "control": None if control is None else source_digest(control),
            "edges_of": source_digest(self.dance.video) if edges and self.dance is not None else None,
            "weights": weights_of(options, "character"),
            "precision": self.precision,
        }


def paint_reference(job: Job, wanted: Wanted, poses: PoseSequence | None, tools: Opens) -> dict[str, Any]:
    """Write RESULTS into a job folder: somebody who follows a dance. Returns facts, with lines to show.

    `poses` are the dance's, None where the edges of a picture are followed. Raises PoseError where the dance
    shows nobody, ConfigError for a frame that it does not have.
    """
    options = settled(wanted.options, "character")
    if options.condition == "canny":
        followed = followed_edges(options, wanted.size, poses, wanted.dance)
    else:
        assert options.canvas and poses is not None
        followed, frame = followed_pose(options, options.canvas, wanted.size, poses)
        logger.info(f"the pose is that of frame {frame} of {len(poses)}")
    names = [f".work/seed-{seed}.png" for seed in wanted.seeds()]
    paint_all(job, wanted, followed.drawn, names, tools)
    return choose(job, wanted, followed, names, tools)


def paint_all(job: Job, wanted: Wanted, drawn: np.ndarray, names: list[str], tools: Opens) -> None:
    """Paint the pictures that are not done, one after the other, each as `drawn` uint8 [H, W, 3] stands."""
    options = settled(wanted.options, "character")
    begun = None
    if options.picture is not None:
        given = read_picture(localize(options.picture))
        begun = place(given, centre_crop((given.shape[1], given.shape[0]), wanted.size))
    key = key_of(
        "pictures", 2, decided_by=wanted.decided_by(), pose=hashlib.sha256(drawn.tobytes()).hexdigest()
    )
    with stage("character", len(names), "picture") as advance:
        for seed, name in zip(wanted.seeds(), names, strict=True):
            path = job.folder / name

            def make(seed: int = seed, path: Path = path) -> None:
                painter = tools.painter(wanted.options, "character", wanted.device, wanted.precision)
                if path.name == Path(names[0]).name:
                    tell_strange_words(painter.pipeline.tokenizer, wanted.prompt)
                write_png(path, paint_one(painter, options, wanted.prompt, drawn, seed, begun))

            job.run(path.stem, key_of("seed", 1, reads=key, seed=seed), [path], make)
            advance(1)
            end_here()


def tell_strange_words(tokenizer: Any, prompt: str) -> None:
    """Say which words of a prompt a model does not know, where it knows whole words alone."""
    if len(tokenizer) >= WORD_PARTS:
        return
    words = dict.fromkeys(re.findall(r"\w+", prompt.lower()))
    strange = [word for word in words if len(tokenizer.tokenize(word)) > 1]
    if strange:
        logger.warning(f"this model does not know {', '.join(strange)}: its card names what it knows")


def paint_one(
    painter: Painter,
    options: CharacterOptions,
    prompt: str,
    drawn: np.ndarray,
    seed: int,
    begun: np.ndarray | None,
) -> np.ndarray:
    """A picture uint8 [H, W, 3] that stands as `drawn`, of the same size; from `begun` if given."""
    from ...stages.image.conditions import to_tensor
    from ...stages.image.paint import PaintSettings, paint

    assert options.steps and options.guidance_scale is not None and options.strength
    settings = PaintSettings(
        prompt,
        options.negative_prompt,
        options.steps,
        options.guidance_scale,
        options.scale,
        options.strength,
    )
    return paint(painter.pipeline, painter.module, to_tensor(drawn), settings, seed, begun)


def choose(job: Job, wanted: Wanted, followed: Followed, names: list[str], tools: Opens) -> dict[str, Any]:
    """See how truly each picture follows, and write the truest, the sheet and the record."""
    pictures = [read_picture(job.folder / name) for name in names]
    named = dict(zip(names, pictures, strict=True))
    errors = errors_of(followed, named, wanted.estimator, tools.estimator)
    order = [np.inf if error is None else error for error in errors]
    taken = int(np.argmin(order))
    reference, side_by_side, record = (job.folder / name for name in RESULTS)
    write_png(reference, pictures[taken])
    write_png(side_by_side, sheet(followed.drawn, pictures, errors, taken))
    seeds = wanted.seeds()
    made = {
        "seed": seeds[taken],
        f"{wanted.options.condition}_errors": dict(zip(map(str, seeds), errors, strict=True)),
        "frame": wanted.options.frame,
        **wanted.decided_by(),
    }
    write_text(record, json.dumps(made, indent=1) + "\n")
    note = note_on_pose if followed.pose is not None else note_on_edges
    return {"notes": [note(seeds[taken], errors[taken])]}


def note_on_edges(seed: int, error: float | None) -> str:
    """What to know of the picture that was taken, from the share of edges that does not agree."""
    return f"seed {seed} is taken: {1 - (error or 0.0):.0%} of its edges and the asked ones agree (F1)"


def note_on_pose(seed: int, error: float | None) -> str:
    """The same from its pose's error in picture heights."""
    if error is not None and error <= NEAR:
        return f"seed {seed} is taken: its pose is {error:.1%} of the height off"
    near = "in none of them was a person found" if error is None else f"the nearest is {error:.0%} off"
    return f"no picture stands within {NEAR:.0%} of its height as the dancer does: {near}; try more seeds"


def sheet(
    drawn: np.ndarray, pictures: list[np.ndarray], errors: list[float | None], taken: int
) -> np.ndarray:
    """The pose and the pictures side by side, each picture's error below it, the taken one's in green."""
    height, width = drawn.shape[:2]
    bar = max(20, height // 24)
    panels = []
    for number, picture in enumerate([drawn, *pictures]):
        foot = np.zeros((bar, width, 3), np.uint8)
        if number > 0:
            error = errors[number - 1]
            text = "nobody" if error is None else f"{error:.1%}"
            colour = (120, 230, 120) if number - 1 == taken else (220, 220, 220)
            cv2.putText(foot, text, (4, bar - 6), cv2.FONT_HERSHEY_SIMPLEX, bar / 40, colour, 1, cv2.LINE_AA)
        panels.append(np.concatenate([picture, foot]))
    return np.concatenate(panels, axis=1)

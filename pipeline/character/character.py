"""`character`: pictures of somebody in a pose of the dance, one for each seed; the truest is the reference.

OUT/reference.png      the picture, for `animate --reference`
OUT/sheet.png          the pose and all pictures side by side, with each pose's error
OUT/character.json     how they were made
"""

import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...stages.errors import ConfigError, PoseError
from ...stages.media.picture import place, read_picture, write_png
from ...stages.media.placement import centre_crop
from ...stages.pose.align import placed_alignment
from ...stages.pose.choose import best_frame, first_frame, pose_error
from ...stages.pose.crop import place_around_pose
from ...stages.pose.files import load_poses
from ...stages.pose.render import draw_control_frames
from ...stages.pose.track import estimate_picture
from ...stages.types import PoseSequence
from ..animate.graph import STEPS, run, step_keys
from ..animate.tools import Tools
from ..config import write_yaml
from ..job.job import Job, Key, key_of, open_job, source_digest, write_text
from ..job.output import refuse_video
from ..progress import stage
from .config import CharacterConfig, PaintingConfig
from .painter import Painter

logger = logging.getLogger(__name__)

NEAR = 0.05
"""Pose errors above this, in picture heights, are said: such a picture does not stand as the dancer does."""
RESULTS = ("reference.png", "sheet.png", "character.json")
RECORDED = {"output", "seeds", "encode", "driving", "pose", "picture", "device"}
"""Options that say where things are, or how many: no picture follows from them."""


def character(config: CharacterConfig) -> list[Path]:
    """Make the reference image that `config` asks for; returns what was written, the picture first.

    A stopped run goes on with the seeds that are not done. Raises ConfigError for a request that cannot be
    met, PoseError where the dance shows nobody.
    """
    refuse_video(config.output)
    if config.base is None:
        raise ConfigError("--base is missing: name a base for pictures, see docs/images.md")
    if config.driving is None and config.pose is None:
        raise ConfigError("--driving is missing: name a driving video, or a pose file with --pose")
    if not config.prompt and config.picture is None:
        raise ConfigError("--prompt is missing: say who is to dance, or give a picture of somebody")
    video = config.video()
    keys = step_keys(video, (STEPS["poses"],))
    with open_job(config.output) as job, closing(Tools()) as tools:
        write_text(job.folder / "config.yaml", write_yaml(config))
        run(job, STEPS["poses"], video, keys, tools)
        poses = asked_pose(config, load_poses(job.folder / "poses.npz"))
        key = key_of_pictures(config, keys["poses"])
        names = [f".work/seed-{config.seed + number}.png" for number in range(config.seeds)]
        paint_all(job, config, poses, key, names)
        final = key_of("reference", 1, reads=key, seeds=config.seeds, estimator=config.estimator.name)
        files = [job.folder / name for name in RESULTS]
        job.run("reference", final, files, lambda: choose(job, config, poses, names, tools))
    return files


def asked_pose(config: CharacterConfig, poses: PoseSequence) -> PoseSequence:
    """The pose to take from a dance, one frame, in pixels of the picture to be."""
    if isinstance(config.frame, int):
        if config.frame >= len(poses):
            raise ConfigError(f"--frame {config.frame}: the dance has {len(poses)} frames, counted from 0")
        frame = config.frame
        if not poses.scores[frame].any():
            raise PoseError(f"nobody is in frame {frame} of the dance: choose another with --frame")
    else:
        frame = best_frame(poses) if config.frame == "best" else first_frame(poses)
    logger.info(f"the pose is that of frame {frame} of {len(poses)}")
    pose = poses[frame : frame + 1]
    return placed_alignment(place_around_pose(pose, (config.width, config.height))).apply(pose)


def key_of_pictures(config: CharacterConfig, poses: Key) -> Key:
    """The key of each seed's picture but for the seed: all that decides it."""
    settings = config.model_dump(mode="json", exclude=RECORDED | {"seed", "estimator", "base", "controlnext"})
    given = None if config.picture is None else source_digest(config.picture)
    weights = weights_of(config)
    return key_of("pictures", 1, decided_by=settings, picture=given, reads=poses, weights=weights)


def weights_of(config: PaintingConfig) -> dict[str, Any]:
    """Digests of the weight files by their names; what is not here by its name."""
    found: dict[str, Any] = {}
    for option in ("base", "controlnext", "unet", "lora", "vae"):
        given = getattr(config, option)
        if given is None:
            continue
        path = Path(given)
        files = [path] if path.is_file() else sorted(path.rglob("*.safetensors")) if path.is_dir() else []
        found[option] = {file.name: source_digest(file) for file in files} or str(given)
    return found


def paint_all(job: Job, config: CharacterConfig, pose: PoseSequence, key: Key, names: list[str]) -> None:
    """Paint the pictures that are not done, one after the other."""
    painter = Painter(config)
    drawn = next(iter(draw_control_frames(pose, config.width, config.height, config.canvas)))
    begun = None
    if config.picture is not None:
        given = read_picture(config.picture)
        size = given.shape[1], given.shape[0]
        begun = place(given, centre_crop(size, (config.width, config.height)))
    with stage("character", len(names), "picture") as advance:
        for name in names:
            seed, path = int(Path(name).stem.partition("-")[2]), job.folder / name

            def make(seed: int = seed, path: Path = path) -> None:
                write_png(path, painter.paint(drawn, seed, begun))

            job.run(path.stem, key_of("seed", 1, reads=key, seed=seed), [path], make)
            advance(1)


def choose(
    job: Job, config: CharacterConfig, pose: PoseSequence, names: list[str], tools: Tools
) -> dict[str, Any]:
    """Find the pose of each picture again, and write the truest, the sheet and the record."""
    pictures = [read_picture(job.folder / name) for name in names]
    errors: list[float | None] = []
    with tools.estimator(config.estimator) as estimator:
        for name, picture in zip(names, pictures, strict=True):
            try:
                found, _ = estimate_picture(
                    picture, estimator, min_score=config.estimator.min_score, name=name
                )
                errors.append(pose_error(found, pose))
            except PoseError:
                errors.append(None)
    order = [np.inf if error is None else error for error in errors]
    taken = int(np.argmin(order))
    drawn = next(iter(draw_control_frames(pose, config.width, config.height, config.canvas)))
    write_png(job.folder / "reference.png", pictures[taken])
    write_png(job.folder / "sheet.png", sheet(drawn, pictures, errors, taken))
    seeds = [config.seed + number for number in range(config.seeds)]
    record = {
        "seed": seeds[taken],
        "pose_errors": dict(zip(map(str, seeds), errors, strict=True)),
        "settings": config.model_dump(mode="json", exclude=RECORDED),
        "weights": weights_of(config),
    }
    write_text(job.folder / "character.json", json.dumps(record, indent=1) + "\n")
    return {"notes": [note_on(seeds[taken], errors[taken])]}


def note_on(seed: int, error: float | None) -> str:
    """What to know of the picture that was taken, from its pose's error in picture heights."""
    if error is not None and error <= NEAR:
        return f"seed {seed} is taken: its pose is {error:.1%} of the height off"
    near = "in none of them was a person found" if error is None else f"the nearest is {error:.0%} off"
    return f"no picture stands within {NEAR:.0%} of its height as the dancer does: {near}; try more --seeds"


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

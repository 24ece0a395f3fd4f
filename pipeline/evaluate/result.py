"""Find the dance again in what was made: `run.py evaluate result FOLDER`, of one job or of a whole batch."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...stages.errors import ConfigError, PoseError
from ...stages.generate import Settings
from ...stages.media.picture import place, read_picture
from ...stages.media.video import Clip, probe, read_frames
from ...stages.pose.compare import compare_poses
from ...stages.pose.follow.track import estimate_poses
from ...stages.types import PoseSequence
from ...stages.windows import plan
from ..animate.graph import steps_of
from ..animate.steps import fitted, load_placement, load_settings
from ..animate.tools import Tools
from ..batch.index import lines_of, write_index
from ..batch.status import read_json, states_of
from ..config import AnimateConfig, resolve
from ..job.evaluation import line_of, read_evaluation, write_evaluation
from ..job.job import Job, open_job, read_record, write_text
from ..progress import stage
from .figures import log_figures
from .watching import Watch

logger = logging.getLogger(__name__)

LEAST_HEIGHT = 1024
"""Frames are enlarged to this height to look for somebody: MediaPipe finds no hands in small ones."""
READ = ("poses", "reference", "placement", "settings", "result")
"""The steps whose files are read, of those that the job has: without a network there are no settings."""


def evaluate_result(folder: Path) -> dict[str, Any]:
    """Figures of a finished job's result, or of those of a batch by their names; says them as a table.

    Writes evaluation.json into each job's folder, and what index.html and summary.json of a batch tell of
    them. Raises ConfigError for a folder without a result.
    """
    if (folder / "config.yaml").is_file():
        figures = evaluate_job(folder)
        log_figures({name: value for name, value in figures.items() if not name.endswith("_over_time")})
        return figures
    if not (folder / "index.html").is_file():
        raise ConfigError(f"{folder} is neither a job folder nor that of a batch: it has no config.yaml")
    done = [state.name for state in states_of(folder) if state.status == "done"]
    if not done:
        raise ConfigError(f"no video of {folder} is done: run the batch first")
    found = {name: evaluate_job(folder / name) for name in done}
    for name, figures in found.items():
        logger.info(f"{name}: {line_of(figures)}")
    write_index(folder, states_of(folder), lines_of(folder))
    summary = read_json(folder / "summary.json")
    if isinstance(summary, dict):
        write_text(folder / "summary.json", json.dumps({**summary, "evaluated": found}, indent=1))
    return found


def evaluate_job(folder: Path) -> dict[str, Any]:
    """Measure one job, as `evaluate_result`. What was measured of the same result is not measured again."""
    config = resolve(AnimateConfig, AnimateConfig(), folder / "config.yaml")
    with open_job(folder) as job, closing(Tools()) as tools:
        files = files_of(job, config)
        known = read_evaluation(folder)
        if known is None:
            known = measure(config, files, tools)
            write_evaluation(job, known)
        return known


def files_of(job: Job, config: AnimateConfig) -> dict[str, Path]:
    """The files of a finished job that are read, by step. Raises ConfigError where one is gone."""
    if read_record(job.record_path("result")) is None:
        raise ConfigError(
            f"{job.folder} has no record of a finished result (.work): run `animate` with this --output"
        )
    files = {step.name: step.files(job.folder, config)[0] for step in steps_of(config) if step.name in READ}
    files["picture"] = config.reference or job.folder / "reference.png"
    for name, path in files.items():
        made = name == "picture" or read_record(job.record_path(name)) is not None
        if not made or not path.is_file():
            raise ConfigError(
                f"{path} is not there, from which the drawn pose is known: run the same command again in "
                f"{job.folder}, which makes what is missing"
            )
    return files


def measure(config: AnimateConfig, files: dict[str, Path], tools: Tools) -> dict[str, Any]:
    """The figures of a result against the pose that was drawn for it and the reference image."""
    placed = load_placement(files["placement"])
    left, top, right, bottom = placed.inside
    own, drawn, _ = fitted(files["poses"], files["reference"], files["placement"], config.align)
    own, drawn = (cut(poses, left, top, (right - left, bottom - top)) for poses in (own, drawn))
    still = place(read_picture(files["picture"]), placed)[top:bottom, left:right]
    info, watch = probe(files["result"]), Watch(drawn, still, own)
    drawn = drawn[: info.num_frames]
    zoom = max(1.0, LEAST_HEIGHT / info.height)
    options = config.estimator

    def watched(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            watch.see(frame)
            yield (
                frame
                if zoom == 1
                else cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            )
            advance(1)

    with tools.estimator(options) as estimator, stage("evaluate", info.num_frames) as advance:
        try:
            found, _ = estimate_poses(
                watched(read_frames(files["result"], Clip())),
                estimator,
                fps=info.fps,
                min_score=options.min_score,
                max_gap=0,
                smooth=0,
                name=str(files["result"]),
            )
            found = replace(found, keypoints=found.keypoints / zoom, size=drawn.size)
        except PoseError:  # nobody in any frame
            if not watch.seen:
                raise
            found = replace(drawn, scores=np.zeros_like(drawn.scores))
    joints = window_starts(load_settings(files["settings"], 0), len(drawn)) if "settings" in files else []
    figures: dict[str, Any] = {"frames": info.num_frames, "estimator": options.name}
    return figures | compare_poses(found, drawn) | watch.figures(joints)


def window_starts(settings: Settings, frames: int) -> list[int]:
    """The frames of a result of so many at which the windows begin, but for the first."""
    windows = plan(settings.window_plan, 1 + frames, settings.window_size, settings.window_overlap)
    return sorted({min(frame for frame in window.frames if frame > 0) - 1 for window in windows})[1:]


def cut(poses: PoseSequence, left: int, top: int, size: tuple[int, int]) -> PoseSequence:
    """Poses in the pixels of a part of their frame, of this size and with its corner there."""
    return replace(poses, keypoints=poses.keypoints - np.array([left, top], np.float32), size=size)

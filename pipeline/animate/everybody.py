"""`pose --person all`: a pose file for each person of a driving video, and a video with all of them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...stages.media.video import Clip, read_frames
from ...stages.pose.files import load_poses, save_poses
from ...stages.pose.follow.report import PoseReport
from ...stages.pose.follow.track import estimate_everybody
from ...stages.pose.render import draw_number, draw_overlay
from ...stages.pose.skeleton import BODY, VISIBLE
from ...stages.types import PoseSequence
from ..config import AnimateConfig
from ..job.inputs import input_digests, with_local_inputs
from ..job.job import Job, key_of
from . import decided
from .dance import clip_of, driving_audio
from .graph import STEPS
from .pose_steps import estimated
from .report import write_panels
from .tools import Tools
from .video import Facts

logger = logging.getLogger(__name__)

PEOPLE, OVERLAY = "everybody", "everybody_overlay"
"""The steps, as their records in the job folder are called."""
SHOWN = ("overlay.mp4", "contact_sheet.png")


def pose_everybody(config: AnimateConfig, job: Job, tools: Tools) -> list[Path]:
    """Write poses_1.npz and so on, from the left to the right, overlay.mp4 and contact_sheet.png.

    Returns their paths. What is done is not made again.
    """
    inputs = input_digests(config, {"driving"})
    key = key_of(PEOPLE, STEPS["poses"].version, decided_by=decided.poses(config), inputs=inputs)
    local = with_local_inputs(config, ("driving",))
    if not job.is_done(PEOPLE, key):
        job.drop(PEOPLE)
        people, notes = _find_everybody(local, tools)
        files = [job.folder / f"poses_{number}.npz" for number in range(1, len(people) + 1)]
        for path, one in zip(files, people, strict=True):
            save_poses(path, one)
        job.commit(PEOPLE, key, files, {"notes": notes, "people": len(people)})
    facts = job.facts(PEOPLE)
    for note in facts["notes"]:
        logger.info(f"{PEOPLE}: {note}")
    files = [job.folder / f"poses_{number}.npz" for number in range(1, facts["people"] + 1)]
    shown = [job.folder / name for name in SHOWN]
    overlay_key = key_of(OVERLAY, 1, decided_by=decided.result(config), reads={PEOPLE: key})
    job.run(OVERLAY, overlay_key, shown, lambda: _write_overlay(local, files, job.folder))
    return [*files, *shown]


def _find_everybody(config: AnimateConfig, tools: Tools) -> tuple[list[PoseSequence], list[str]]:
    """The poses of each person of the driving video, and notes on them."""
    (people, few), decoding = estimated(config, tools, estimate_everybody)
    notes = [*decoding, *_notes(people)]
    if few:
        notes.append(f"{few} more, seen in few frames only, are left out")
    return [poses for poses, _ in people], notes


def _notes(people: Sequence[tuple[PoseSequence, PoseReport]]) -> Iterator[str]:
    """Where each person is, and in how many frames."""
    for number, (poses, found) in enumerate(people, 1):
        frame = int(poses.scores.any(1).argmax())
        joints = poses.keypoints[frame, BODY][poses.scores[frame, BODY] > VISIBLE]
        x, y = joints.mean(0) if len(joints) else (0, 0)
        yield (
            f"person {number}: in {found.frames - found.missing} of {found.frames} frames, first at "
            f"{x:.0f},{y:.0f} after {float(frame / poses.fps):.2f} s"
        )


def _write_overlay(config: AnimateConfig, files: Sequence[Path], folder: Path) -> Facts:
    """The people drawn on the driving video with their numbers -> overlay.mp4 and contact_sheet.png."""
    assert config.driving is not None
    people = [load_poses(path) for path in files]
    clip = clip_of(config)
    panels = {
        "driving": read_frames(config.driving, clip),
        "pose": _drawn(config.driving, clip, people),
    }
    video, sheet = (folder / name for name in SHOWN)
    write_panels(panels, len(people[0]), people[0].fps, video, sheet, driving_audio(config), config.encode)
    return {}


def _drawn(driving: Path, clip: Clip, people: Sequence[PoseSequence]) -> Iterator[np.ndarray]:
    """The frames of the driving video with everybody's skeleton and number on them."""
    for i, frame in enumerate(read_frames(driving, clip)):
        picture = frame
        for poses in people:
            picture = draw_overlay(picture, poses.keypoints[i], poses.scores[i])
        for number, poses in enumerate(people, 1):
            draw_number(picture, poses.keypoints[i], poses.scores[i], number)
        yield picture

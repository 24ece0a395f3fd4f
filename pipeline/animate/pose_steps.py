"""The steps that find poses: the character's in its picture, the dancer's in the driving video."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...stages.errors import PoseError
from ...stages.media.audio import try_sound
from ...stages.media.photograph import is_photograph
from ...stages.media.picture import read_picture
from ...stages.media.video import DecodeReport, count_frames, output_rate, probe, read_frames
from ...stages.pose.files import load_poses, save_poses
from ...stages.pose.follow.person import Person
from ...stages.pose.follow.report import PoseReport, report_of_file
from ...stages.pose.follow.track import estimate_picture, estimate_poses
from ...stages.pose.shown import hidden_parts, listed
from ...stages.types import NUM_KEYPOINTS, PoseSequence
from ..config import AnimateConfig
from ..job.inputs import file_beside
from ..job.job import write_text
from ..progress import stage
from .accept import refuse_poor_poses, short_line
from .dance import clip_of, driving_audio, person_of, pose_size_of
from .tools import Tools
from .video import Facts, Video

Found = TypeVar("Found")


def reference(video: Video, tools: Tools) -> Facts:
    """The pose of the character in its picture -> pose file: read from beside the picture, or estimated.

    With alignment `none` a picture without a person gives a pose of score 0 throughout; else PoseError. The
    facts tell whether the picture is a photograph.
    """
    picture, options = video.reference, video.config.estimator
    beside = file_beside(picture, ".npz")
    notes: list[str] = []
    image = read_picture(picture, notes)
    size = (image.shape[1], image.shape[0])
    if beside is not None:
        poses = load_poses(beside)
        if poses.size != size:
            raise PoseError(
                f"{beside} has keypoints for a picture of {poses.size[0]}x{poses.size[1]}, "
                f"but {picture} is {size[0]}x{size[1]}: remove it or make it again"
            )
        save_poses(video.output, poses[:1])
        notes.append(f"keypoints of the character read from {beside}")
        return {"notes": notes, "photograph": is_photograph(image)}
    with tools.estimator(options) as estimator:
        try:
            poses, found = estimate_picture(image, estimator, min_score=options.min_score, name=str(picture))
            if found.people is not None and found.people > 1:
                notes.append(f"{found.people} people in {picture}: the largest is animated")
        except PoseError:
            if video.config.align != "none":
                raise
            empty = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
            poses = PoseSequence(empty, empty[..., 0], size, Fraction(1))
            notes.append(f"no person found in {picture}")
    save_poses(video.output, poses)
    return {"notes": notes, "photograph": is_photograph(image)}


def poses(video: Video, tools: Tools) -> Facts:
    """The dance -> pose file, and its figures as JSON: of the driving video, or the user's own pose file."""
    config, (output, figures) = video.config, video.writes
    facts = driving_poses(config, output, tools) if config.pose is None else copy_poses(config, output)
    write_text(figures, json.dumps(facts["found"], indent=1) + "\n")
    return facts


def accepted_poses(video: Video) -> list[str]:
    """Notes on the poses of a video that reads them, where they fall short and are accepted all the same.

    Raises PoseError where they are not: what follows would be made in vain.
    """
    config = video.config
    found = load_report(video.reads["poses"][1])
    return refuse_poor_poses(found, config.accept, str(config.pose or config.driving), config.accept_poses)


def load_report(path: Path) -> PoseReport:
    """The figures that step `poses` wrote."""
    return PoseReport(**json.loads(path.read_text(encoding="utf-8")))


def copy_poses(config: AnimateConfig, output: Path) -> Facts:
    """The pose file that the user names -> pose file `output`."""
    assert config.pose is not None
    poses = load_poses(config.pose, pose_size_of(config), person_of(config))
    save_poses(output, poses)
    found = report_of_file(poses)
    notes = [*pose_notes(found), *shown_notes(poses, config.pose)]
    return {"notes": notes, "found": asdict(found)}


def driving_poses(config: AnimateConfig, output: Path, tools: Tools) -> Facts:
    """Poses of the driving video -> pose file `output`."""
    driving, person = config.driving, person_of(config)
    assert driving is not None
    if (sound := driving_audio(config)) is not None:
        try_sound(sound, lossless=config.encode.lossless)  # it is written last, after the long work
    (poses, found), decoding = estimated(config, tools, partial(estimate_poses, person=person))
    save_poses(output, poses)
    notes = [*decoding, *pose_notes(found, person), *shown_notes(poses, driving)]
    return {"notes": notes, "found": asdict(found)}


def estimated(config: AnimateConfig, tools: Tools, estimate: Callable[..., Found]) -> tuple[Found, list[str]]:
    """What `estimate` finds in the driving video as `config` asks, and notes on how that decoded."""
    driving, clip, options = config.driving, clip_of(config), config.estimator
    assert driving is not None
    info, decoding = probe(driving, clip), DecodeReport()

    def found_one(count: int) -> None:
        advance(1)

    with tools.estimator(options) as estimator, stage("pose", count_frames(info, clip)) as advance:
        found = estimate(
            read_frames(driving, clip, decoding),
            estimator,
            fps=output_rate(info, clip),
            min_score=options.min_score,
            max_gap=options.max_gap,
            smooth=config.smooth,
            name=str(driving),
            on_frame=found_one,
        )
    return found, list(decoding_notes(decoding))


def decoding_notes(report: DecodeReport) -> Iterator[str]:
    """What a user should know of how the driving video decoded."""
    yield from report.notes
    if report.lost or report.damaged:
        yield (
            f"the driving video is damaged: {report.decoded} frames decoded, {report.damaged} of them with "
            f"errors, {report.lost} lost"
        )


def pose_notes(report: PoseReport, person: Person | None = None) -> Iterator[str]:
    """What a user should know of the poses that were found."""
    if report.people is not None and report.people > 1 and person is None:
        yield (
            f"up to {report.people} people seen at once: the larger and most constant one is followed; "
            "--person names another"
        )
    if report.missing or report.filled:
        yield (
            f"no person in {report.missing + report.filled} of {report.frames} frames: "
            f"{report.filled} filled from their neighbours, {report.missing} left empty"
        )
    yield short_line(report)


def shown_notes(poses: PoseSequence, source: Path) -> Iterator[str]:
    """Which parts of the dancer's body a driving video or pose file does not show."""
    hidden = hidden_parts(poses)
    if hidden:
        yield (
            f"{source} does not show the dancer's {listed(hidden)}: where the character's picture does, the "
            "model makes up how they move"
        )

"""The character as a figure of paper: for `pose --reference`, and for the model `cutout`."""

from collections.abc import Iterator

import cv2
import numpy as np

from ...stages.media.encode import VideoWriter
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import Placement
from ...stages.pose.animatic.bones import skeleton_of
from ...stages.pose.animatic.figure import PaperFigure
from ...stages.pose.files import load_poses
from ...stages.pose.fit.affine import placed_alignment
from ...stages.pose.fit.align import fit_alignment
from ...stages.pose.render import draw_overlay
from ...stages.types import PoseSequence
from ..config import AnimateConfig
from ..doctor import environment
from ..job.job import write_text
from . import decided
from .bent import save_bent
from .dance import driving_audio
from .report import write_panels
from .steps import load_placement
from .video import Facts, Video

LONGEST_SIDE = 768
"""Pixels of the longer side of an animatic; a smaller picture keeps its size."""
FADED = 0.6
"""Brightness of the character behind its fitted skeleton."""


def animatic(video: Video, tools: object) -> Facts:
    """The dance fitted to the character -> animatic.mp4, the character as a figure of paper; fitted.mp4, its
    skeleton over the picture beside that, and some moments as fitted_sheet.png. With the sound."""
    config = video.config
    picture, own = smaller(read_picture(video.reference), load_poses(video.read("reference")))
    dance = load_poses(video.read("poses"))
    fit = fit_alignment(dance, own, config.align)
    aligned, audio = fit.apply(dance), driving_audio(config)
    behind = np.rint(picture * FADED).astype(np.uint8)
    height, width = picture.shape[:2]
    encode = config.encode
    options = {"crf": encode.crf, "preset": encode.preset}
    with VideoWriter(video.folder / "animatic.mp4", width, height, dance.fps, audio, **options) as writer:

        def written() -> Iterator[np.ndarray]:
            for frame in paper_frames(picture, own, aligned):
                writer.write(frame)
                yield frame

        skeletons = (
            draw_overlay(behind, *one) for one in zip(aligned.keypoints, aligned.scores, strict=True)
        )
        panels = {"fitted": skeletons, "animatic": written()}
        shown = (video.folder / "fitted.mp4", video.folder / "fitted_sheet.png")
        write_panels(panels, len(aligned), dance.fps, *shown, audio, encode)
    return {"notes": [fit.note] if fit.note else []}


def paper(video: Video, tools: object) -> Facts:
    """The character cut out in the frame of the result, and the dance fitted to it -> npz, see `bent.py`."""
    config, placed = video.config, load_placement(video.read("placement"))
    own = placed_alignment(placed).apply(load_poses(video.read("reference")))
    fit = fit_alignment(load_poses(video.read("poses")), own, config.align)
    write_text(video.folder / "environment.json", environment({}))
    picture = place(read_picture(video.reference), placed)
    save_bent(video.output, picture, own, fit.apply(load_poses(video.read("poses"))))
    stands = "the character's shoulders are not seen in its picture: it stands still"
    return {"notes": [] if skeleton_of(own.keypoints[0], own.scores[0]) else [stands]}


def paper_frames(picture: np.ndarray, own: PoseSequence, aligned: PoseSequence) -> Iterator[np.ndarray]:
    """A character dancing as a figure of paper, uint8 [H, W, 3] each; `own` and `aligned` in pixels of it."""
    figure = PaperFigure(picture, own)
    for points, scores in zip(aligned.keypoints, aligned.scores, strict=True):
        yield figure.draw(points, scores)


def smaller(picture: np.ndarray, own: PoseSequence) -> tuple[np.ndarray, PoseSequence]:
    """A picture of at most LONGEST_SIDE, width and height even as videos want them, and the pose in it."""
    height, width = picture.shape[:2]
    zoom = min(1.0, LONGEST_SIDE / max(width, height))
    size = (max(2, 2 * round(width * zoom / 2)), max(2, 2 * round(height * zoom / 2)))
    if size == (width, height):
        return picture, own
    fitted = placed_alignment(Placement(size, size, (0, 0))).apply(own)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), fitted


def decided_by(config: AnimateConfig) -> dict[str, object]:
    """How the dancer is fitted, and the video encoded."""
    return {**decided.control(config), **decided.result(config)}

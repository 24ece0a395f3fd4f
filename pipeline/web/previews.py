"""What is shown before a model runs: frames of the dance, who dances, the fitted pose, and the animatic.

A process of its own makes them, so that an estimator that dies takes no page with it. Each is kept in
`.web/previews/` under a key of what decides it.
"""

import hashlib
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...stages.atomic import atomic_path
from ...stages.errors import PosedanceError, PoseError
from ...stages.media.encode import AudioSource, VideoWriter
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import centre_crop, letterbox
from ...stages.media.video import Clip, clip_start, count_frames, output_rate, probe, read_frames
from ...stages.pose.animatic.figure import PaperFigure
from ...stages.pose.base import PoseEstimator
from ...stages.pose.crop import place_around_pose
from ...stages.pose.files import load_poses, save_poses
from ...stages.pose.fit.affine import placed_alignment
from ...stages.pose.fit.align import fit_alignment
from ...stages.pose.follow.choose import best_frame
from ...stages.pose.follow.people import person_score
from ...stages.pose.follow.person import scaled
from ...stages.pose.follow.track import estimate_picture, estimate_poses
from ...stages.pose.render import draw_overlay
from ...stages.pose.skeleton import BODY, VISIBLE
from ...stages.types import PoseSequence
from ..animate.accept import share
from ..animate.dance import clip_of, person_of
from ..animate.tools import estimator_of
from ..config import AnimateConfig
from ..job.job import write_text
from ..job.system_errors import told

logger = logging.getLogger(__name__)

STRIP_FRAMES, STRIP_HEIGHT = 20, 96
"""Frames of a strip, and their pixels from top to bottom."""
GLANCES = 8
"""Frames at which the first look at a dance is taken."""
LOOKED_AT = 720
"""Pixels of the longer side of the frames in which poses are looked for here."""
SIDE = 512
"""Pixels of the longer side of an animatic."""
SHAPE = (576, 1024)
"""Width and height of results where none is asked for: the shape of all models of the table."""
QUALITY = 85
NOBODY = re.compile(r"(there is nobody (?:at|inside) )[-\d.,e+]+(?=,)")
WATCH_S = 1.0
"""Seconds between looks whether the server is there."""
DECIDING = (
    "driving", "reference", "start", "duration", "stride", "person", "smooth", "align", "fit", "width",
    "height",
)  # fmt: skip
"""Options on which previews depend."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A preview: of which files, with which options."""

    driving: Path
    picture: Path
    config: AnimateConfig
    folder: Path
    key: str


def key_of_preview(config: AnimateConfig, what: str) -> str:
    """What names a preview: files of uploads are named by their content."""
    told = json.dumps([what, {name: str(getattr(config, name)) for name in DECIDING}])
    return hashlib.sha256(told.encode()).hexdigest()[:20]


class Previewer:
    """Makes previews one after the other, in a process of its own; the newest first where several wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[str, Future[dict[str, Any]]] = {}

    def warm_up(self) -> None:
        """Load what estimators need, before anybody asks."""
        self._submit(load)

    def _submit(self, function: Any, *arguments: Any) -> Future[Any]:
        with self._lock:
            if self._pool is None:
                self._pool = new_pool()
            try:
                return self._pool.submit(function, *arguments)
            except BrokenProcessPool:
                self._pool = new_pool()
                return self._pool.submit(function, *arguments)

    def ask(self, what: str, config: AnimateConfig) -> dict[str, Any]:
        """The state of a preview, `fit` or `animatic`, which is begun where it was not."""
        key = key_of_preview(config, what)
        kept = self._folder / f"{key}.json"
        if kept.is_file():
            return {"state": "done", "key": key, **json.loads(kept.read_text())}
        future = self._running.get(key)
        if future is None:
            for other in list(self._running):
                if self._running[other].cancel():  # of another cut or person, not begun
                    self._running.pop(other)
            assert config.driving is not None and config.reference is not None
            wanted = Wanted(config.driving, config.reference, config, self._folder, key)
            self._running[key] = self._submit(guarded, what, wanted)
            return {"state": "working", "key": key}
        if not future.done():
            return {"state": "working", "key": key}
        self._running.pop(key)
        error = future.exception()
        if error is None:
            return {"state": "done", "key": key, **future.result()}
        if isinstance(error, PosedanceError):
            return {"state": "failed", "key": key, "error": str(error)}
        with self._lock:
            self._pool = None
        logger.warning(f"a preview failed: {type(error).__name__}: {error}")
        return {"state": "failed", "key": key, "error": "the preview ended without a word: try it again"}

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)


def new_pool() -> ProcessPoolExecutor:
    """A process for previews that ends with this one, however this one ends."""
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    )


def end_with(parent: int) -> None:
    """End this process once its parent is gone: a killed server would leave its estimator in memory."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


_estimators: dict[str, PoseEstimator] = {}
"""In the process of previews: the estimator, kept between them."""


def load() -> None:
    """Open the default estimator."""
    estimator_for(AnimateConfig())


def estimator_for(config: AnimateConfig) -> PoseEstimator:
    """The estimator that a config asks for, set up once in this process."""
    key = config.estimator.model_dump_json()
    if key not in _estimators:
        estimator = estimator_of(config.estimator)
        estimator.setup()
        _estimators[key] = estimator
    return _estimators[key]


def guarded(what: str, wanted: Wanted) -> dict[str, Any]:
    """Make a preview and keep it; what the system refuses becomes a line.

    Who was named is told in pixels of the video, not of the smaller frames that were looked at.
    """
    try:
        made = fit(wanted) if what == "fit" else animatic(wanted)
    except PoseError as error:
        raise PoseError(NOBODY.sub(rf"\g<1>{wanted.config.person}", str(error))) from None
    except OSError as error:
        raise PoseError(told(error) if error.errno is not None else str(error)) from None
    write_text(wanted.folder / f"{wanted.key}.json", json.dumps(made))
    return made


def fit(wanted: Wanted) -> dict[str, Any]:
    """The first look: some frames of the dance, fitted to the character. Tells who was seen where."""
    config = wanted.config
    estimator = estimator_for(config)
    info = probe(wanted.driving, clip_of(config))
    clip = clip_of(config)
    spread = Clip(clip.start, clip.duration, clip.stride * math.ceil(count_frames(info, clip) / GLANCES))
    frames = list(read_frames(wanted.driving, spread, longest_side=LOOKED_AT))
    zoom = frames[0].shape[1] / info.width
    boxes = people_in(frames[0], estimator, config.estimator.min_score)
    people = [[round(edge / zoom, 1) for edge in box] for box in boxes]
    write_jpeg(wanted.folder / f"{wanted.key}-people.jpg", frames[0], 480)
    dance, found = estimate_poses(
        frames,
        estimator,
        fps=output_rate(info, spread),
        min_score=config.estimator.min_score,
        max_gap=0,
        smooth=0,
        name=str(wanted.driving),
        person=scaled(person_of(config), zoom),
    )
    still, own, notes = fitted_character(wanted, estimator)
    alignment = fit_alignment(dance, own, config.align)
    aligned = alignment.apply(dance)
    best = best_frame(aligned)
    moments = sorted({best, *np.linspace(0, len(aligned) - 1, 4).round().astype(int).tolist()})
    drawn = [draw_overlay(still, aligned.keypoints[i], aligned.scores[i]) for i in (best, *moments)]
    write_jpeg(wanted.folder / f"{wanted.key}-fit.jpg", drawn[0], SIDE)
    write_jpeg(wanted.folder / f"{wanted.key}-moments.jpg", np.concatenate(drawn[1:], 1), SIDE // 2)
    return {
        "people": people,
        "size": [info.width, info.height],
        "notes": [*notes, *([alignment.note] if alignment.note else [])],
        "seen": f"a person in {found.frames - found.missing} of {found.frames} frames that were looked at; "
        f"body joints found {share(found.body)}, hands {share(found.hands)}, face {share(found.face)}",
        "files": [f"{wanted.key}-{name}.jpg" for name in ("fit", "moments", "people")],
    }


def people_in(frame: np.ndarray, estimator: PoseEstimator, min_score: float) -> list[list[float]]:
    """The boxes of all people in one frame, in its pixels: [left, top, right, bottom] each, within it."""
    estimator.start(static=True)
    (found,) = estimator([frame])
    boxes = []
    for points, scores in zip(found.keypoints, found.scores, strict=True):
        joints = points[BODY][scores[BODY] > VISIBLE].clip(0, (frame.shape[1], frame.shape[0]))
        if person_score(scores) >= min_score and len(joints) > 1:
            boxes.append([round(float(edge), 1) for edge in (*joints.min(0), *joints.max(0))])
    return sorted(boxes)


def fitted_character(wanted: Wanted, estimator: PoseEstimator) -> tuple[np.ndarray, PoseSequence, list[str]]:
    """The character in the frame of the result, small, and its pose there."""
    config, notes = wanted.config, []
    picture = read_picture(wanted.picture, notes)
    kept = wanted.folder / f"{wanted.picture.stem}-own.npz"
    if kept.is_file():
        own = load_poses(kept)
    else:
        own, _ = estimate_picture(
            picture, estimator, min_score=config.estimator.min_score, name=str(wanted.picture)
        )
        save_poses(kept, own)
    width, height = config.width or SHAPE[0], config.height or SHAPE[1]
    if config.width is None and config.height is not None:
        width = round(height * SHAPE[0] / SHAPE[1])
    zoom = SIDE / max(width, height)
    frame = (2 * round(width * zoom / 2), 2 * round(height * zoom / 2))
    if config.fit == "pad":
        placement = letterbox(own.size, frame)
    else:
        placement = (
            centre_crop(own.size, frame) if config.align == "published" else place_around_pose(own, frame)
        )
    return place(picture, placement), placed_alignment(placement).apply(own), notes


def animatic(wanted: Wanted) -> dict[str, Any]:
    """The whole dance, by the character as a figure of paper beside its fitted pose, with the sound."""
    config = wanted.config
    estimator = estimator_for(config)
    info, clip = probe(wanted.driving, clip_of(config)), clip_of(config)
    dance, _ = estimate_poses(
        read_frames(wanted.driving, clip, longest_side=LOOKED_AT),
        estimator,
        fps=output_rate(info, clip),
        min_score=config.estimator.min_score,
        max_gap=config.estimator.max_gap,
        smooth=config.smooth,
        name=str(wanted.driving),
        person=scaled(person_of(config), min(1, LOOKED_AT / max(info.width, info.height))),
    )
    still, own, _ = fitted_character(wanted, estimator)
    aligned = fit_alignment(dance, own, config.align).apply(dance)
    audio = AudioSource(wanted.driving, clip_start(info, clip)) if info.has_audio else None
    path, (height, width) = wanted.folder / f"{wanted.key}.mp4", still.shape[:2]
    with VideoWriter(path, 2 * width, height, dance.fps, audio, crf=23, preset="veryfast") as writer:
        for frame in drawn_frames(still, own, aligned):
            writer.write(frame)
    return {"files": [path.name], "frames": len(aligned)}


def drawn_frames(still: np.ndarray, own: PoseSequence, aligned: PoseSequence) -> Iterator[np.ndarray]:
    """The fitted pose over the character, and the figure of paper, side by side."""
    figure = PaperFigure(still, own)
    faded = np.rint(still * 0.6).astype(np.uint8)
    for points, scores in zip(aligned.keypoints, aligned.scores, strict=True):
        yield np.concatenate([draw_overlay(faded, points, scores), figure.draw(points, scores)], 1)


def strip(driving: Path, path: Path) -> None:
    """Write frames of a whole video, evenly spread, side by side."""
    info = probe(driving)
    clip = Clip(stride=math.ceil(info.num_frames / STRIP_FRAMES))
    side = round(STRIP_HEIGHT * max(1, info.width / info.height))
    write_jpeg(path, np.concatenate(list(read_frames(driving, clip, longest_side=side)), 1), None)


def write_jpeg(path: Path, picture: np.ndarray, side: int | None) -> None:
    """Write uint8 [H, W, 3] RGB as JPEG, whole or not at all; with its height scaled down to `side`."""
    if side is not None and picture.shape[0] > side:
        width = max(1, round(picture.shape[1] * side / picture.shape[0]))
        picture = cv2.resize(picture, (width, side), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def thumb(source: Path, path: Path, height: int = 144) -> None:
    """Write a small picture of a picture or of the first frame of a video."""
    if source.suffix in (".png", ".jpg", ".gif", ".riff"):
        picture = read_picture(source)
    else:
        picture = next(iter(read_frames(source, Clip(), longest_side=2 * height)))
    write_jpeg(path, picture, height)

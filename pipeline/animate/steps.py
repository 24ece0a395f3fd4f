"""The work of `animate`, step by step: each function reads files, calls stages, and writes files.

No function here knows what was done before or what comes next; `animate.py` decides that. Each writes its
outputs whole or not at all and returns facts about them, as plain data that a record can keep.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stages.errors import PoseError
from ...stages.generate import Checkpoint, Settings
from ...stages.media.encode import AudioSource, VideoWriter
from ...stages.media.frames import StoredFrames, write_frames
from ...stages.media.picture import fit_cover, read_picture
from ...stages.media.video import Clip, DecodeReport, count_frames, output_rate, probe, read_frames
from ...stages.pose.align import cover_alignment, fit_alignment
from ...stages.pose.base import PoseEstimator
from ...stages.pose.estimators import make_estimator
from ...stages.pose.files import load_poses, save_poses
from ...stages.pose.render import draw_control_frames
from ...stages.pose.track import PoseReport, estimate_picture, estimate_poses
from ...stages.types import NUM_KEYPOINTS, PoseSequence
from ...stages.windows import plan
from ..config import ClipConfig, EncodeConfig, EstimatorConfig
from ..job.storage import is_file
from ..progress import say, stage
from .preview import Preview

if TYPE_CHECKING:
    from torch import Tensor

Facts = dict[str, Any]

CUT_WORTH_SAYING = 0.2
"""Part of the reference picture that may be cut off at its sides without a word."""


def clip_of(config: ClipConfig) -> Clip:
    """The part of the driving video that a config asks for."""
    return Clip(config.start, config.duration, config.stride)


def estimator_of(options: EstimatorConfig) -> PoseEstimator:
    """The pose estimator that a config asks for, not yet set up."""
    return make_estimator(options.name, model=options.model, detector=options.detector)


@contextmanager
def opened(options: EstimatorConfig) -> Iterator[PoseEstimator]:
    """The pose estimator that a config asks for, set up, and closed at the end."""
    with closing(estimator_of(options)) as estimator:
        estimator.setup()
        yield estimator


OpenEstimator = Callable[[EstimatorConfig], AbstractContextManager[PoseEstimator]]
"""Where a step gets its pose estimator: `opened`, or a worker that keeps one."""


def driving_poses(
    driving: Path,
    clip: Clip,
    options: EstimatorConfig,
    output: Path,
    open_estimator: OpenEstimator = opened,
) -> Facts:
    """Poses of a driving video -> pose file `output`."""
    info, decoding = probe(driving), DecodeReport()
    frames = read_frames(driving, clip, decoding)

    def found_one(count: int) -> None:
        advance(1)

    with open_estimator(options) as estimator, stage("pose", count_frames(info, clip)) as advance:
        poses, found = estimate_poses(
            frames,
            estimator,
            fps=output_rate(info, clip),
            min_score=options.min_score,
            max_gap=options.max_gap,
            name=str(driving),
            on_frame=found_one,
        )
    save_poses(output, poses)
    return {"notes": [*decoding_notes(decoding), *pose_notes(found)]}


def decoding_notes(report: DecodeReport) -> Iterator[str]:
    """What a user should know of how the driving video decoded."""
    yield from report.notes
    if report.lost or report.damaged:
        yield (
            f"the driving video is damaged: {report.decoded} frames decoded, {report.damaged} of them with "
            f"errors, {report.lost} lost"
        )


def pose_notes(report: PoseReport) -> Iterator[str]:
    """What a user should know of the poses that were found."""
    if report.people > 1:
        yield f"up to {report.people} people seen at once: the larger and most constant one is followed"
    if report.missing or report.filled:
        yield (
            f"no person in {report.missing + report.filled} of {report.frames} frames: "
            f"{report.filled} filled from their neighbours, {report.missing} left empty"
        )
    yield (
        f"{report.frames} frames, mean scores: body {report.body:.2f}, hands {report.hands:.2f}, "
        f"face {report.face:.2f}"
    )


def copy_poses(source: Path, output: Path) -> Facts:
    """A pose file that the user names -> pose file `output`."""
    poses = load_poses(source)
    save_poses(output, poses)
    missing = int((~poses.scores.any(1)).sum())
    return {"notes": [f"no person in {missing} of {len(poses)} frames of {source}"] if missing else []}


def reference_pose(
    reference: Path,
    options: EstimatorConfig,
    may_lack: bool,
    output: Path,
    open_estimator: OpenEstimator = opened,
) -> Facts:
    """Pose of the character in a picture -> pose file `output`: read from beside it, or estimated.

    With `may_lack` a picture without a person gives a pose of score 0 throughout; otherwise PoseError.
    """
    beside = keypoints_beside(reference)
    image = read_picture(reference)
    size = (image.shape[1], image.shape[0])
    if beside is not None:
        poses = load_poses(beside)
        if poses.size != size:
            raise PoseError(
                f"{beside} has keypoints for a picture of {poses.size[0]}x{poses.size[1]}, "
                f"but {reference} is {size[0]}x{size[1]}: remove it or make it again"
            )
        save_poses(output, poses[:1])
        return {"notes": [f"keypoints of the character read from {beside}"]}
    notes = []
    with open_estimator(options) as estimator:
        try:
            poses, found = estimate_picture(
                image, estimator, min_score=options.min_score, name=str(reference)
            )
            if found.people > 1:
                notes.append(f"{found.people} people in {reference}: the largest is animated")
        except PoseError:
            if not may_lack:
                raise
            empty = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
            poses = PoseSequence(empty, empty[..., 0], size, Fraction(1))
            notes.append(f"no person found in {reference}")
    save_poses(output, poses)
    return {"notes": notes}


def keypoints_beside(reference: Path) -> Path | None:
    """The keypoint file of a picture: the same name with .npz, where it exists."""
    path = reference.with_suffix(".npz")
    return path if is_file(path) else None


def draw_control(
    driving_poses: Path,
    reference_pose: Path,
    align: str,
    size: tuple[int, int],
    canvas: int,
    output: Path,
) -> Facts:
    """Align the driver to the character and draw the control frames of `size` -> frame store `output`.

    `canvas` is the short side of the drawing that the model was trained with. Frame 0 is the reference's own
    pose, the driver's follow. A character without a pose of its own is taken to stand in the driver's first.
    """
    driver, own = load_poses(driving_poses), load_poses(reference_pose)
    cover = cover_alignment(own.size, *size)
    own = cover.apply(own)
    fit = fit_alignment(driver, own, align)
    aligned = fit.apply(driver)
    notes = [fit.note] if fit.note else []
    if (cut := 1 - 1 / math.prod(cover.scale)) > CUT_WORTH_SAYING:
        notes.append(
            f"{cut:.0%} of the picture is cut away to fit {size[0]}x{size[1]}: "
            "choose --width and --height nearer to its shape"
        )
    if not own.scores.any():
        first = int(np.argmax(aligned.scores.any(1)))
        own = aligned[first : first + 1]
        notes.append("the character has no pose of its own: it is taken to stand in the dancer's first pose")
    with stage("draw", len(aligned) + 1) as advance:
        published = align == "published"
        drawn = chain(
            *(draw_control_frames(poses, *size, canvas, published=published) for poses in (own, aligned))
        )
        write_frames(output, counted(drawn, advance))
    return {"notes": notes}


def denoise(
    run: "Callable[..., Tensor]",
    reference: Path,
    control: Path,
    settings: Settings,
    output: Path,
    checkpoint: Path,
    key: str,
    open_preview: Callable[[np.ndarray], Preview] | None = None,
) -> None:
    """Latents of the video -> safetensors file `output`. `run` is `Generator.denoise` or does the same.

    After each step they are kept in `checkpoint` under `key`, where a stopped run of the same key goes on.
    `open_preview` gets the reference image at the size of the video.
    """
    from ...stages.svd.files.weights import save_tensors

    frames = StoredFrames(control)
    height, width = frames[0:1].shape[1:3]
    published = settings.window_plan != "even"
    image = fit_cover(read_picture(reference), width, height, published=published)
    windows = len(plan(settings.window_plan, len(frames), settings.window_size, settings.window_overlap))
    resume = load_checkpoint(checkpoint, key)
    preview = None if open_preview is None else open_preview(image)

    def keep(step: int, latents: "Tensor") -> None:
        save_tensors(checkpoint, {"latents": latents}, {"key": key, "step": str(step)})
        if preview is not None:
            preview.write(step)

    def predicted(step: int, window: int) -> None:
        advance(1)

    with stage("denoise", settings.steps * windows, "window") as advance:
        if resume is not None:
            say(f"denoise: going on after step {resume.step} of {settings.steps}")
            advance(resume.step * windows)
        latents = run(
            image,
            frames,
            settings,
            resume=resume,
            on_window=predicted,
            on_step=keep,
            on_estimate=None if preview is None else preview.collect,
        )
    save_tensors(output, {"latents": latents}, {"key": key})
    checkpoint.unlink(missing_ok=True)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint in `path` if it belongs to `key`; None where there is none to go on from."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            if facts["key"] != key:
                return None
            return Checkpoint(int(facts["step"]), file.get_tensor("latents"))
    except SafetensorError as error:
        say(f"denoise: {path} is damaged ({error}): starting over")
        return None


def write_result(
    decode: "Callable[[Tensor, Settings], Iterator[np.ndarray]]",
    latents: Path,
    settings: Settings,
    fps: Fraction,
    output: Path,
    audio: AudioSource | None,
    encode: EncodeConfig,
) -> None:
    """Decode latents and write the video with the driving video's sound, frame by frame -> mp4 `output`.

    `decode` is `Generator.decode` or does the same.
    """
    from safetensors.torch import load_file

    tensor = load_file(latents)["latents"]
    frames = decode(tensor, settings)
    first = next(frames)
    height, width = first.shape[:2]
    with (
        stage("decode", len(tensor) - 1) as advance,
        VideoWriter(output, width, height, fps, audio, crf=encode.crf, preset=encode.preset) as writer,
    ):
        for frame in chain([first], frames):
            writer.write(frame)
            advance(1)


def counted(frames: Iterable[np.ndarray], advance: Callable[[int], object]) -> Iterator[np.ndarray]:
    """Pass frames on and call `advance(1)` for each."""
    for frame in frames:
        yield frame
        advance(1)

"""The work of `animate`, step by step: each function reads files, calls stages, and writes files.

No function here knows what was done before or what comes next: `graph.py` tells which files it gets. Each
writes its outputs whole or not at all and returns facts about them.
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stages.errors import PoseError
from ...stages.generate import Checkpoint, Settings
from ...stages.media.encode import AudioSource, VideoWriter
from ...stages.media.frames import StoredFrames, write_frames
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import Placement, centre_crop, letterbox
from ...stages.media.video import (
    Clip,
    DecodeReport,
    clip_start,
    count_frames,
    output_rate,
    probe,
    read_frames,
)
from ...stages.pose.align import fit_alignment, placed_alignment
from ...stages.pose.crop import in_frame, place_around_pose, share_inside
from ...stages.pose.files import load_poses, save_poses
from ...stages.pose.render import draw_control_frames
from ...stages.pose.track import PoseReport, estimate_picture, estimate_poses
from ...stages.types import NUM_KEYPOINTS, PoseSequence
from ...stages.windows import plan
from ..config import AnimateConfig, ClipConfig, EstimatorConfig
from ..doctor import environment
from ..job.inputs import file_beside
from ..job.job import write_text
from ..progress import stage
from .decided import weights_of
from .preview import Preview
from .report import write_comparison
from .settings import Size, notes_on, settings_of, size_of
from .tools import Tools
from .video import Facts, Video

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CUT_WORTH_SAYING = 0.2
"""Part of the reference picture that may be cut off at its sides without a word."""
LEAST_INSIDE = 0.25
"""Share of the visible body joints that must lie in the frames; head and shoulders are 0.4 of a dancer's."""
CHECKPOINT = ".work/checkpoint.safetensors"
"""Where denoising keeps what it has come to."""
PREVIEWED = ".work/previewed"
"""There where preview.mp4 is ours, so that no video of the user's is removed."""


def size(video: Video, tools: Tools) -> Facts:
    """What the model makes of the asked width and height -> `Size` as JSON."""
    config = video.config
    size = size_of(tools.any_generator(config), config.width, config.height)
    write_text(video.output, json.dumps(asdict(size)))
    return {}


def settings(video: Video, tools: Tools) -> Facts:
    """What the model makes of the options of sampling -> `Settings` as JSON, without the video's own seed."""
    generator = tools.any_generator(video.config)
    settings = settings_of(generator, video.config)
    shared = asdict(settings)
    del shared["seed"]
    write_text(video.output, json.dumps(shared))
    return {"notes": notes_on(generator, settings)}


def load_settings(path: Path, seed: int) -> Settings:
    """The settings that step `settings` wrote, with the video's own seed."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(path.read_text()).items()
    }
    return Settings(**values, seed=seed)


def reference(video: Video, tools: Tools) -> Facts:
    """The pose of the character in its picture -> pose file: read from beside the picture, or estimated.

    With alignment `none` a picture without a person gives a pose of score 0 throughout; else PoseError.
    """
    picture, options = video.config.reference, video.config.estimator
    assert picture is not None
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
        return {"notes": [*notes, f"keypoints of the character read from {beside}"]}
    with tools.estimator(options) as estimator:
        try:
            poses, found = estimate_picture(image, estimator, min_score=options.min_score, name=str(picture))
            if found.people > 1:
                notes.append(f"{found.people} people in {picture}: the largest is animated")
        except PoseError:
            if video.config.align != "none":
                raise
            empty = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
            poses = PoseSequence(empty, empty[..., 0], size, Fraction(1))
            notes.append(f"no person found in {picture}")
    save_poses(video.output, poses)
    return {"notes": notes}


def poses(video: Video, tools: Tools) -> Facts:
    """The dance -> pose file: the poses of the driving video, or the pose file that the user names."""
    config = video.config
    if config.pose is not None:
        return copy_poses(config.pose, pose_size_of(config), video.output)
    assert config.driving is not None
    return driving_poses(config.driving, clip_of(config), config.estimator, video.output, tools)


def pose_size_of(config: AnimateConfig) -> tuple[int, int] | None:
    """The size of the pose file's video that a config names, (width, height)."""
    if config.pose_size is None:
        return None
    width, height = config.pose_size.split("x")
    return int(width), int(height)


def copy_poses(source: Path, size: tuple[int, int] | None, output: Path) -> Facts:
    """A pose file that the user names, of a video of `size` if it does not tell -> pose file `output`."""
    poses = load_poses(source, size)
    save_poses(output, poses)
    missing = int((~poses.scores.any(1)).sum())
    return {"notes": [f"no person in {missing} of {len(poses)} frames of {source}"] if missing else []}


def driving_poses(driving: Path, clip: Clip, options: EstimatorConfig, output: Path, tools: Tools) -> Facts:
    """Poses of a driving video -> pose file `output`."""
    info, decoding = probe(driving, clip), DecodeReport()
    frames = read_frames(driving, clip, decoding)

    def found_one(count: int) -> None:
        advance(1)

    with tools.estimator(options) as estimator, stage("pose", count_frames(info, clip)) as advance:
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


def clip_of(config: ClipConfig) -> Clip:
    """The part of the driving video that a config asks for."""
    return Clip(config.start, config.duration, config.stride, config.fps, config.max_pixels)


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


def placement(video: Video, tools: Tools) -> Facts:
    """Where the reference picture lies in the frames -> `Placement` as JSON, for all steps that show it.

    Cropped around the character, or padded with `--fit pad`; the alignment `published` cuts the middle out.
    Refuses a frame that shows too little of the character.
    """
    size, own = load_size(video.read("size")), load_poses(video.read("reference"))
    frame = (size.width, size.height)
    if video.config.fit == "pad":
        placed = letterbox(own.size, frame)
    elif video.config.align == "published":
        placed = centre_crop(own.size, frame)
    else:
        placed = place_around_pose(own, frame)
    facts: Facts = {"notes": []}
    if (cut := 1 - math.prod(frame) / math.prod(placed.scaled)) > CUT_WORTH_SAYING:
        facts["notes"].append(
            f"{cut:.0%} of the picture is cut away to fit {size.width}x{size.height}: "
            "choose --width and --height nearer to its shape, or --fit pad"
        )
    if own.scores.any():
        seen = PoseSequence(own.keypoints, own.scores * in_frame(own), own.size, own.fps)
        facts["inside"] = share_inside(placed_alignment(placed).apply(seen))
        if facts["inside"] < LEAST_INSIDE:
            raise PoseError(
                f"{size.width}x{size.height} shows {facts['inside']:.0%} of the joints of the character in "
                f"{video.config.reference}: choose --width and --height nearer to the picture's shape, --fit "
                "pad, or another --align than published"
            )
    write_text(video.output, json.dumps(asdict(placed)))
    return facts


def load_size(path: Path) -> Size:
    """What step `size` wrote."""
    return Size(**json.loads(path.read_text()))


def load_placement(path: Path) -> Placement:
    """What step `placement` wrote."""
    return Placement(**{name: tuple(pair) for name, pair in json.loads(path.read_text()).items()})


def control(video: Video, tools: Tools) -> Facts:
    """Align the driver to the character and draw the control frames -> frame store.

    Frame 0 is the reference's own pose, the driver's follow. A character without a pose of its own is taken
    to stand in the driver's first. Refuses a dancer of whom the frames would show too little.
    """
    size = load_size(video.read("size"))
    driver, own = load_poses(video.read("poses")), load_poses(video.read("reference"))
    own = placed_alignment(load_placement(video.read("placement"))).apply(own)
    fit = fit_alignment(driver, own, video.config.align)
    aligned = fit.apply(driver)
    notes = [fit.note] if fit.note else []
    inside = share_inside(aligned)
    if inside < LEAST_INSIDE:
        raise PoseError(
            f"{size.width}x{size.height} shows {inside:.0%} of the dancer's joints, which --align "
            f"{video.config.align} fits to the character: choose another, or a picture that shows more of it"
        )
    if not own.scores.any():
        first = int(np.argmax(aligned.scores.any(1)))
        own = aligned[first : first + 1]
        notes.append("the character has no pose of its own: it is taken to stand in the dancer's first pose")
    with stage("draw", len(aligned) + 1) as advance:
        published = video.config.align == "published"
        draw = partial(draw_control_frames, width=size.width, height=size.height, canvas=size.canvas)
        drawn = chain.from_iterable(draw(each, published=published) for each in (own, aligned))
        write_frames(video.output, counted(drawn, advance))
    return {"notes": notes, "inside": inside}


def latents(video: Video, tools: Tools) -> Facts:
    """Latents of the video -> safetensors file.

    After each step they are kept in `CHECKPOINT` under the key, where a stopped run goes on. Writes what it
    is made with to environment.json, and previews where they are asked for.
    """
    from ...stages.svd.files.weights import save_tensors

    config, generator = video.config, tools.generator(video.config)
    write_text(video.folder / "environment.json", environment(weights_of(config)))
    assert config.reference is not None
    settings = load_settings(video.read("settings"), config.seed)
    frames = StoredFrames(video.read("control"))
    placed = load_placement(video.read("placement"))
    image = place(read_picture(config.reference), placed, published=settings.is_recipe)
    windows = len(plan(settings.window_plan, len(frames), settings.window_size, settings.window_overlap))
    checkpoint, shown = video.folder / CHECKPOINT, video.folder / "preview.mp4"
    resume = load_checkpoint(checkpoint, video.key)
    preview, ours = None, video.folder / PREVIEWED
    if ours.exists():
        shown.unlink(missing_ok=True)  # of an earlier run
        ours.unlink()
    if config.preview_every is not None:
        ours.touch()
        fps = load_poses(video.read("poses")).fps
        preview = Preview(generator, generator.colours(image), config.preview_every, fps, shown)

    def keep(step: int, latents: "Tensor") -> None:
        save_tensors(checkpoint, {"latents": latents}, {"key": video.key, "step": str(step)})
        if preview is not None:
            preview.write(step)

    def predicted(step: int, window: int) -> None:
        advance(1)

    denoise = generator.denoise
    if tools.denoise is not None:
        denoise = partial(tools.denoise, generator, video.read("control"))
    with stage("denoise", settings.steps * windows, "window") as advance:
        if resume is not None:
            logger.info(f"denoise: going on after step {resume.step} of {settings.steps}")
            advance(resume.step * windows)
        latents = denoise(
            image,
            frames,
            settings,
            resume=resume,
            on_window=predicted,
            on_step=keep,
            on_estimate=None if preview is None else preview.collect,
        )
    save_tensors(video.output, {"latents": latents}, {"key": video.key})
    checkpoint.unlink(missing_ok=True)
    return {}


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
        logger.warning(f"denoise: {path} is damaged ({error}): starting over")
        return None


def result(video: Video, tools: Tools) -> Facts:
    """Decode the latents and write the video with the driving video's sound, frame by frame -> mp4 or mkv."""
    from safetensors.torch import load_file

    config, encode = video.config, video.config.encode
    tensor = load_file(video.read("latents"))["latents"]
    fps, audio = load_poses(video.read("poses")).fps, driving_audio(config)
    decoder = tools.decoder(config)
    settings = load_settings(video.read("settings"), config.seed)
    frames = decoder.decode(tensor, settings, encode.bit_depth)
    left, top, right, bottom = load_placement(video.read("placement")).inside
    size = (right - left, bottom - top)
    with (
        stage("decode", len(tensor) - 1) as advance,
        VideoWriter(video.output, *size, fps, audio, **encode.model_dump(exclude={"audio"})) as writer,
    ):
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[top:bottom, left:right]))
            advance(1)
    return {}


def driving_audio(config: ClipConfig) -> AudioSource | None:
    """The driving video's sound from where the clip starts, unless it is not wanted or there is none."""
    if config.driving is None or not config.encode.audio:
        return None
    info = probe(config.driving, clip_of(config))
    return AudioSource(config.driving, clip_start(info, clip_of(config))) if info.has_audio else None


def comparison(video: Video, tools: Tools) -> Facts:
    """The comparison video and the contact sheet: driving video, pose, reference and result."""
    config = video.config
    assert config.reference is not None
    driving = None if config.driving is None else (config.driving, clip_of(config))
    control, result, audio = video.read("control"), video.read("result"), driving_audio(config)
    placed = load_placement(video.read("placement"))
    write_comparison(driving, control, config.reference, placed, result, video.folder, audio, config.encode)
    return {}


def counted(frames: Iterable[np.ndarray], advance: Callable[[int], object]) -> Iterator[np.ndarray]:
    """Pass frames on and call `advance(1)` for each."""
    for frame in frames:
        yield frame
        advance(1)

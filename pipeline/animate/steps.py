"""The work of `animate`, step by step: each function reads files, calls stages, and writes files.

No function here knows what was done before or what comes next: `graph.py` tells which files it gets. Each
writes its outputs whole or not at all and returns facts about them.
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stages.errors import PoseError
from ...stages.generate import Settings
from ...stages.media.encode import VideoWriter
from ...stages.media.frames import StoredFrames, write_frames
from ...stages.media.picture import place, read_picture
from ...stages.media.placement import Placement, centre_crop, letterbox
from ...stages.pose.crop import in_frame, place_around_pose, share_inside
from ...stages.pose.files import load_poses
from ...stages.pose.fit.affine import placed_alignment
from ...stages.pose.fit.align import Fit, fit_alignment
from ...stages.pose.render import draw_control_frames
from ...stages.types import PoseSequence
from ...stages.windows import plan
from ..doctor import environment
from ..interrupts import end_here
from ..job.job import write_text
from ..progress import stage
from .bent import bent_frames
from .checkpoint import CHECKPOINT, load_checkpoint
from .dance import clip_of, driving_audio
from .decided import weights_of
from .pose_steps import accepted_poses
from .preview import Preview
from .recorded import record_of
from .report import write_comparison
from .settings import Paper, Size, is_cutout, notes_on, settings_of, size_of
from .tools import Tools
from .video import Facts, Video

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CUT_WORTH_SAYING = 0.2
"""Part of the reference picture that may be cut off at its sides without a word."""
LEAST_INSIDE = 0.25
"""Share of the visible body joints that must lie in the frames; head and shoulders are 0.4 of a dancer's."""
PREVIEWED = ".work/previewed"
"""There where preview.mp4 is ours, so that no video of the user's is removed."""


def size(video: Video, tools: Tools) -> Facts:
    """What the model makes of the asked width and height -> `Size` as JSON."""
    config = video.config
    model = Paper() if is_cutout(config) else tools.any_generator(config)
    size = size_of(model, config.width, config.height)
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
                f"{video.config.reference or 'the painted picture'}: choose --width and --height nearer to "
                "the picture's shape, --fit pad, or another --align than published"
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
    """Fit the dancer to the character and draw the control frames -> frame store.

    Frame 0 is the reference's own pose, the dancer's follow. A character without a pose of its own is taken
    to stand in the dancer's first. Refuses poses that are too poor, and a dancer of whom the frames would
    show too little.
    """
    accepted = accepted_poses(video)
    size = load_size(video.read("size"))
    poses, own, placed = (video.read(step) for step in ("poses", "reference", "placement"))
    own, aligned, fit = fitted(poses, own, placed, video.config.align)
    notes = [*accepted, *([fit.note] if fit.note else [])]
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
    limbs = {name: round(ratio, 3) for name, ratio in fit.limbs.items()}
    return {"notes": notes, "inside": inside, "fitted": fit.method, "limbs": limbs}


def fitted(
    poses: Path, reference: Path, placement: Path, align: str
) -> tuple[PoseSequence, PoseSequence, Fit]:
    """The character's own pose and the dancer's, both in the frames of the video, and how they were fitted.

    From the files of these steps. A character without a pose has one that scores 0.
    """
    own = placed_alignment(load_placement(placement)).apply(load_poses(reference))
    dance = load_poses(poses)
    fit = fit_alignment(dance, own, align)
    return own, fit.apply(dance), fit


def latents(video: Video, tools: Tools) -> Facts:
    """Latents of the video -> safetensors file.

    After each step they are kept in `CHECKPOINT` under the key, where a stopped run goes on. Writes what it
    is made with to environment.json, and previews where they are asked for.
    """
    from ...stages.svd.files.weights import save_tensors

    config, generator = video.config, tools.generator(video.config)
    write_text(video.folder / "environment.json", environment(weights_of(config)))
    settings = load_settings(video.read("settings"), config.seed)
    frames = StoredFrames(video.read("control"))
    placed = load_placement(video.read("placement"))
    image = place(read_picture(video.reference), placed, published=settings.is_recipe)
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
        end_here()

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


def result(video: Video, tools: Tools) -> Facts:
    """Write the frames, with the driving video's sound, one by one -> mp4 or mkv."""
    config, encode = video.config, video.config.encode
    fps, audio = load_poses(video.read("poses")).fps, driving_audio(config)
    if is_cutout(config):
        count, frames = bent_frames(video.read("paper"), encode.bit_depth)
    else:
        count, frames = decoded_frames(video, tools)
    left, top, right, bottom = load_placement(video.read("placement")).inside
    size = (right - left, bottom - top)
    options = encode.model_dump(exclude={"audio"})
    with (
        stage("decode", count) as advance,
        VideoWriter(video.output, *size, fps, audio, comment=record_of(config), **options) as writer,
    ):
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[top:bottom, left:right]))
            advance(1)
    return {}


def decoded_frames(video: Video, tools: Tools) -> tuple[int, Iterator[np.ndarray]]:
    """How many frames there are, and what the model's decoder makes of their latents."""
    from safetensors.torch import load_file

    config = video.config
    tensor = load_file(video.read("latents"))["latents"]
    settings = load_settings(video.read("settings"), config.seed)
    return len(tensor) - 1, tools.decoder(config).decode(tensor, settings, config.encode.bit_depth)


def comparison(video: Video, tools: Tools) -> Facts:
    """The comparison video and the contact sheet: driving video, pose, reference, result, it enlarged."""
    config = video.config
    driving = None if config.driving is None else (config.driving, clip_of(config))
    control, result, audio = video.read("control"), video.read("result"), driving_audio(config)
    placed = load_placement(video.read("placement"))
    results = {"result": result}
    if "upscale" in video.reads:
        results["upscaled"] = video.read("upscale")
    write_comparison(driving, control, video.reference, placed, results, video.folder, audio, config.encode)
    return {}


def counted(frames: Iterable[np.ndarray], advance: Callable[[int], object]) -> Iterator[np.ndarray]:
    """Pass frames on and call `advance(1)` for each."""
    for frame in frames:
        yield frame
        advance(1)

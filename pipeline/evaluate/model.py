"""Measure a model on drawn dancers that it has never seen: `run.py evaluate model --model demo`.

Characters and motions come from a seed outside the training's range; the true video of "this character dances
that dance" is drawn, and the generator is the one that `animate` uses.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from ...datasets.clips import HELD_OUT, SUPERSAMPLING, Clip, draw_dance, palette_of, poses_of
from ...datasets.puppets.half_body import CUTS, CutIn, draw_half_body
from ...datasets.puppets.render import PARTS, Character, make_character, make_motion, reference_pose
from ...datasets.puppets.words import describe
from ...stages import quality
from ...stages.generate import Settings
from ...stages.media.picture import write_png
from ...stages.models import load_generator
from ...stages.pose.render import draw_control_frames
from ...stages.windows import plan
from ..config import JsonFile
from ..config_base import Config
from ..progress import stage
from .figures import log_figures, write_figures
from .fingers import finger_figures

FPS = Fraction(15)
WRISTS = (9, 10)
"""Indices among the 133 keypoints."""
HEAD = PARTS.index("head")
HANDS = [PARTS.index("left_hand"), PARTS.index("right_hand")]
WHOLE_BODY = 1.2
"""Framings of a smaller zoom show the whole body."""
DISTINCT = 0.015
"""A part whose colour is elsewhere in the true picture too is known by a larger position error than this."""

GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "torso": (("torso", "left_sleeve", "right_sleeve"),),
    "head": (("head", "hair", "neck"),),
    "hair": (("hair",),),
    "legs": (("hips", "left_leg", "right_leg"),),
    "hands": (("left_hand",), ("right_hand",)),
    "feet": (("left_shoe",), ("right_shoe",)),
}
"""What is looked for by colour: for each name, its sides, each made of parts."""
POSITIONED = ("torso", "hair", "legs", "hands", "feet")
"""Groups whose position is measured; the head's is its hair's, since skin is elsewhere too."""


class EvaluateConfig(Config):
    """What is measured."""

    model: str = "demo"
    """Model name or folder."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides characters and motions."""
    clips: Annotated[int, Field(ge=2)] = 6
    """Characters, each with one motion."""
    frames: Annotated[int, Field(ge=3)] = 28
    """Frames of each clip; several windows need more than one window's."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Denoising steps [default: the model's]."""
    guidance_scale: Annotated[float | None, Field(ge=0)] = None
    """Guidance [default: the model's]."""
    half_body: CutIn | None = None
    """Measure half bodies: where the dancer is cut, in turn at knees and waist [default: whole bodies]."""
    temporal: bool = True
    """False leaves the UNet's temporal layers out, to see what they are worth."""
    json_file: JsonFile = None
    """File that gets the figures."""
    sheet: Path | None = None
    """Where to write the picture sheet (PNG): reference, pose, truth, output."""


@dataclass(frozen=True, slots=True)
class HeldOutClip:
    """One held-out clip at the model's size: uint8 frames, with frame 0 the reference."""

    frames: np.ndarray
    control: np.ndarray
    parts: np.ndarray
    wrists: np.ndarray
    """float32 [T, 2, 3]: x, y and score."""
    prompt: str
    """What the character looks like, in words."""


def held_out(
    seed: int,
    number: int,
    frames: int,
    size: tuple[int, int],
    canvas: int,
    half_body: CutIn | None = None,
) -> HeldOutClip:
    """Clip `number` of a seed: a character with gloves and a plain top, whose parts colours tell apart.

    The whole body is in the frame, and the reference shows both hands, unless `half_body` cuts it: even
    numbers at the knees, odd ones at the waist.
    """
    rng = np.random.default_rng([seed, number, 11])
    large = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    half = None
    if half_body is not None:
        half = draw_half_body(np.random.default_rng([seed, number, 12]), half_body, list(CUTS)[number % 2])
    character = distinct_character(rng)
    motion = make_motion(HELD_OUT + int(rng.integers(HELD_OUT)), FPS)
    hides = half is not None and half.reference is not None
    while True:
        still = reference_pose(int(rng.integers(HELD_OUT)))
        (reference,) = draw_dance(character, still, motion, (), large, half)
        if hides or palette_of(character.colours, reference.parts)[HANDS, 3].all():
            break
    drawn = draw_dance(character, still, motion, range(frames), large, half)
    poses = poses_of(drawn, large, FPS)
    wrists = np.concatenate([poses.keypoints / SUPERSAMPLING, poses.scores[..., None]], axis=-1)[:, WRISTS]
    wrists[..., 2] *= ((wrists[..., :2] >= 0) & (wrists[..., :2] < size)).all(-1)
    return HeldOutClip(
        frames=np.stack([cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA) for frame in drawn]),
        control=np.stack(list(draw_control_frames(poses, *size, canvas))),
        parts=np.stack([frame.parts[::SUPERSAMPLING, ::SUPERSAMPLING] for frame in drawn]),
        wrists=wrists,
        prompt=describe(character),
    )


def distinct_character(rng: np.random.Generator) -> Character:
    """A held-out character with gloves and a plain top, framed as a whole."""
    while True:
        character = make_character(HELD_OUT + int(rng.integers(HELD_OUT)))
        outfit = character.outfit
        if outfit.hands != outfit.skin and outfit.pattern == "plain" and character.framing.zoom < WHOLE_BODY:
            return character


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """All figures of a model on held-out clips; says them as a table, writes JSON and sheet if asked."""
    generator = load_generator(config.model)
    defaults = generator.defaults
    settings = generator.settings()
    settings = replace(
        settings,
        steps=config.steps or settings.steps,
        guidance_scale=settings.guidance_scale if config.guidance_scale is None else config.guidance_scale,
    )
    size = defaults.width, defaults.height
    clips, outputs = [], []
    with (
        stage("evaluate", config.clips, "clip") as done,
        temporal_layers(generator.unet, config.temporal),
    ):
        for number in range(config.clips):
            clip = held_out(
                config.seed, number, config.frames, size, defaults.control_canvas, config.half_body
            )
            outputs.append(animate_clip(generator, clip, settings))
            clips.append(clip)
            done(1)
    joints = [
        w.frames[1] - 1
        for w in plan(settings.window_plan, config.frames + 1, settings.window_size, settings.window_overlap)
    ]
    figures = measure(clips, outputs, joints[1:])
    figures |= finger_figures(outputs, [clip.frames[1:] for clip in clips])
    figures |= {"model": config.model, "seed": config.seed, "clips": config.clips, "frames": config.frames}
    figures |= {"half_body": config.half_body or "none"}
    figures |= {"steps": settings.steps, "guidance_scale": settings.guidance_scale, "windows": len(joints)}
    log_figures(figures)
    write_figures(config.json_file, figures)
    if config.sheet is not None:
        config.sheet.parent.mkdir(parents=True, exist_ok=True)
        write_png(config.sheet, draw_sheet(clips, outputs))
    return figures


@contextmanager
def temporal_layers(unet: Any, enabled: bool) -> Iterator[None]:
    from ...stages.svd.levers.temporal import without_temporal

    if enabled:
        yield
    else:
        with without_temporal(unet):
            yield


def animate_clip(generator: Any, clip: HeldOutClip, settings: Settings) -> np.ndarray:
    """The model's frames for a clip, uint8 [T, H, W, 3], the reference's own left out."""
    latents = generator.denoise(clip.frames[0], clip.control, settings)
    return np.stack(list(generator.decode(latents, settings)))


def measure(clips: list[HeldOutClip], outputs: list[np.ndarray], joints: list[int]) -> dict[str, Any]:
    """Figures of outputs against their clips, each the mean over clips, parts and frames."""
    right: dict[str, list[float]] = {name: [] for name in POSITIONED}
    wrong: dict[str, list[float]] = {name: [] for name in POSITIONED}
    hits: dict[str, list[bool]] = {"right": [], "wrong": []}
    left_out = 0
    for clip, output in zip(clips, outputs, strict=True):
        truth, parts, wrists = clip.frames[1:], clip.parts[1:], clip.wrists[1:]
        masks = {name: in_group(parts, sides) for name, sides in GROUPS.items() if name != "head"}
        masks["skin"] = np.isin(parts, [PARTS.index(name) for name in PARTS if name in SKIN])
        colours = quality.part_colours(truth, masks)
        background = quality.background_colours(truth, parts == 0)
        found = quality.find_parts(output, colours, background)
        in_truth = quality.find_parts(truth, colours, background)
        known = shown_by_reference(clip)
        distinct = [
            name
            for name in found
            if name in POSITIONED and name in known and is_found(in_truth[name], parts, name)
        ]
        left_out += len(POSITIONED) - len(distinct)
        for t in range(len(truth)):
            other = (t + len(truth) // 2) % len(truth)
            for name in distinct:
                for at, errors in ((t, right), (other, wrong)):
                    errors[name] += quality.position_errors(found[name][t], sides_of(parts[at], name))
            for at, key in ((t, "right"), (other, "wrong")):
                for x, y, score in wrists[at]:
                    if score > 0.5:
                        hits[key].append(quality.hit(output[t], truth[at], np.array([x, y])))
    by_part = {f"part_error_{name}_percent": 100 * mean(values) for name, values in right.items()}
    error = mean([mean(values) for values in right.values() if values])
    shuffled = mean([mean(values) for values in wrong.values() if values])
    pairs = list(zip(outputs, (clip.frames[1:] for clip in clips), strict=True))
    return {
        "part_error_percent": 100 * error,
        "part_error_vs_shuffled": error / max(shuffled, 1e-9),
        **by_part,
        "parts_left_out": left_out,
        "wrist_hit": mean(hits["right"]),
        "wrist_hit_shuffled": mean(hits["wrong"]),
        "psnr": mean([quality.psnr(output, truth) for output, truth in pairs]),
        "ssim": mean([quality.ssim(output, truth) for output, truth in pairs]),
        "psnr_of_reference": mean(
            [quality.psnr(np.repeat(c.frames[:1], len(c.frames) - 1, 0), c.frames[1:]) for c in clips]
        ),
        "face_psnr": mean(
            [
                quality.masked_psnr(o, c.frames[1:], c.parts[1:] == HEAD)
                for o, c in zip(outputs, clips, strict=True)
            ]
        ),
        "ghost": mean(
            [
                quality.ghost(o, c.frames[1:], c.parts[1:] > 0, c.parts[0] > 0)
                for o, c in zip(outputs, clips, strict=True)
            ]
        ),
        **colour_accuracy(clips, outputs),
        "flicker": mean([quality.flicker(output, truth) for output, truth in pairs]),
        "seam_score": mean([quality.seam_score(output, joints, truth) for output, truth in pairs]),
    }


SKIN = ("head", "neck", "left_arm", "right_arm", "left_calf", "right_calf")


def is_found(found: np.ndarray, parts: np.ndarray, name: str) -> bool:
    """Whether a part's colour tells it apart: whether it is found in the true frames where it is."""
    errors = [
        e for t in range(len(parts)) for e in quality.position_errors(found[t], sides_of(parts[t], name))
    ]
    return bool(errors) and mean(errors) < DISTINCT


def shown_by_reference(clip: HeldOutClip) -> list[str]:
    """The groups that the reference shows: of others nobody could know the colours."""
    return [name for name, sides in GROUPS.items() if in_group(clip.parts[0], sides).any()]


def sides_of(parts: np.ndarray, name: str) -> list[np.ndarray]:
    """Masks of a group's sides in one frame."""
    return [in_group(parts, (side,)) for side in GROUPS[name]]


def in_group(parts: np.ndarray, sides: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Mask of a group: which values of `parts` belong to any of its sides."""
    return np.isin(parts, [PARTS.index(name) for side in sides for name in side])


def colour_accuracy(clips: list[HeldOutClip], outputs: list[np.ndarray]) -> dict[str, float]:
    """Share of (part, other character) where the part is nearer to its own colour than to the other's.

    Colours are CIELAB means: the output's over the part's true place, and each character's over its own.
    """
    own: list[dict[str, np.ndarray]] = []
    made: list[dict[str, np.ndarray]] = []
    for clip, output in zip(clips, outputs, strict=True):
        masks = {name: in_group(clip.parts[1:], GROUPS[name]) for name in shown_by_reference(clip)}
        own.append(quality.part_colours(clip.frames[1:], masks))
        made.append(quality.part_colours(output, masks))
    verdicts: dict[str, list[bool]] = {name: [] for name in GROUPS}
    for i, colours in enumerate(made):
        for name, colour in colours.items():
            for j, other in enumerate(own):
                if j != i and name in other:
                    near, far = np.linalg.norm(colour - own[i][name]), np.linalg.norm(colour - other[name])
                    verdicts[name].append(bool(near < far))
    by_part = {f"colour_accuracy_{name}": mean(values) for name, values in verdicts.items() if values}
    return {"colour_accuracy": mean([v for values in verdicts.values() for v in values]), **by_part}


def mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def draw_sheet(
    clips: Sequence[HeldOutClip | Clip], outputs: list[np.ndarray], columns: int = 6, zoom: int = 2
) -> np.ndarray:
    """uint8 RGB: for each clip a row of references, then for some moments pose, truth and output."""
    rows = []
    for clip, output in zip(clips, outputs, strict=True):
        moments = np.linspace(0, len(output) - 1, columns).round().astype(int)
        tiles = [clip.frames[0]]
        for moment in moments:
            tiles += [clip.control[moment + 1], clip.frames[moment + 1], output[moment]]
        rows.append(np.concatenate(tiles, axis=1))
    sheet = np.concatenate(rows)
    return cv2.resize(sheet, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)

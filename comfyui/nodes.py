"""The nodes. Each calls posedance's public functions (docs/python.md) and turns shapes."""

import tempfile
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import torch

from posedance.stages import (
    AudioSource,
    Clip,
    Generator,
    PaperFigure,
    Placement,
    VideoWriter,
    clip_start,
    count_frames,
    draw_control_frames,
    estimate_picture,
    estimate_poses,
    letterbox,
    load_generator,
    make_estimator,
    openpose_frames,
    output_rate,
    place,
    place_around_pose,
    placed_alignment,
    poses_of_layout,
    probe,
    read_frames,
    read_sound,
    write_sound,
)
from posedance.stages import align as align_poses

from .shapes import Progress, audio_of, frames_of, image_of, model_named, rate_of, sound_of

CATEGORY = "PoseDance"
MIN_SCORE = 0.3
"""A body is seen from this mean score of its joints on, as on posedance's command line."""
MAX_GAP = 5
"""Frames without a person that are interpolated, as there."""

Types = dict[str, dict[str, Any]]


class PoseDanceLoadDriving:
    """A driving video of the input folder: its frames, its sound and its rate, cut and thinned."""

    TITLE = "Load Driving"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT", "INT")
    RETURN_NAMES = ("frames", "audio", "fps", "frame_count")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802 (ComfyUI's name)
        folder = Path(folder_paths.get_input_directory())
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        videos = folder_paths.filter_files_content_types(names, ["video"])
        return {
            "required": {
                "video": (videos, {"video_upload": True}),
                "stride": ("INT", {"default": 2, "min": 1, "max": 100, "tooltip": "Use every n-th frame."}),
                "start": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1e5, "step": 0.01}),
                "duration": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 1e5, "step": 0.01, "tooltip": "Seconds; 0 is all."},
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, video: str, **_: Any) -> str:  # noqa: N802
        path = Path(folder_paths.get_annotated_filepath(video))
        return f"{path.stat().st_mtime_ns} {path.stat().st_size}"

    @classmethod
    def VALIDATE_INPUTS(cls, video: str) -> bool | str:  # noqa: N802
        return (
            folder_paths.exists_annotated_filepath(video) or f"there is no video {video} in the input folder"
        )

    def load(self, video: str, stride: int, start: float, duration: float) -> tuple[Any, ...]:
        path = folder_paths.get_annotated_filepath(video)
        clip = Clip(start=Fraction(str(start)), duration=Fraction(str(duration)) or None, stride=stride)
        info = probe(path, clip)
        fps = output_rate(info, clip)
        progress = Progress(count_frames(info, clip))
        frames = image_of(progress.over(read_frames(path, clip)))
        sound = None
        if info.has_audio:
            sound = read_sound(AudioSource(path, clip_start(info, clip), len(frames) / fps))
        return frames, audio_of(sound), float(fps), len(frames)


class PoseDanceEstimatePose:
    """The poses of one person: through the frames of a video, or in one picture."""

    TITLE = "Estimate Pose"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("POSE_KEYPOINT",)
    RETURN_NAMES = ("pose",)
    FUNCTION = "estimate"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "image": ("IMAGE",),
                "estimator": (["mediapipe", "dwpose", "rtmw"], {"default": "mediapipe"}),
            },
            "optional": {
                "fps": ("FLOAT", {"default": 15.0, "min": 0.01, "max": 1000.0, "step": 0.01}),
                "model": ("STRING", {"default": "", "tooltip": "The estimator's file, for dwpose and rtmw."}),
                "detector": ("STRING", {"default": "", "tooltip": "The person detector's file, for those."}),
            },
        }

    def estimate(
        self, image: torch.Tensor, estimator: str, fps: float = 15.0, model: str = "", detector: str = ""
    ) -> tuple[Any, ...]:
        frames, progress = frames_of(image), Progress(len(image))
        files = {"model": Path(model) if model else None, "detector": Path(detector) if detector else None}
        finder = make_estimator(estimator, **files)
        finder.setup()
        try:
            if len(frames) == 1:
                poses, _ = estimate_picture(frames[0], finder, min_score=MIN_SCORE, name="image")
                progress.step()
            else:
                poses, _ = estimate_poses(
                    frames,
                    finder,
                    fps=rate_of(fps),
                    min_score=MIN_SCORE,
                    max_gap=MAX_GAP,
                    name="image",
                    on_frame=progress.step,
                )
        finally:
            finder.close()
        return (openpose_frames(poses),)


class PoseDanceFitPose:
    """The character's picture brought to the video's size, and the dance fitted to the character in it."""

    TITLE = "Fit Pose"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("POSE_KEYPOINT", "POSE_KEYPOINT", "IMAGE")
    RETURN_NAMES = ("pose", "reference_pose", "reference")
    FUNCTION = "fit"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "pose": ("POSE_KEYPOINT",),
                "reference": ("IMAGE",),
                "reference_pose": ("POSE_KEYPOINT",),
                "width": ("INT", {"default": 576, "min": 8, "max": 8192}),
                "height": ("INT", {"default": 1024, "min": 8, "max": 8192}),
                "align": (["limbs", "robust", "published", "wan", "none"], {"default": "limbs"}),
                "fit": (["crop", "pad"], {"default": "crop"}),
            }
        }

    def fit(
        self,
        pose: list[Any],
        reference: torch.Tensor,
        reference_pose: list[Any],
        width: int,
        height: int,
        align: str,
        fit: str,
    ) -> tuple[Any, ...]:
        own, picture = poses_of_layout(reference_pose)[:1], frames_of(reference)[0]
        size = picture.shape[1], picture.shape[0]
        own = placed_alignment(Placement(size, size, (0, 0))).apply(own)  # DWPose resizes pictures
        pad = fit == "pad"
        placement = letterbox(size, (width, height)) if pad else place_around_pose(own, (width, height))
        own = placed_alignment(placement).apply(own)
        fitted = align_poses(poses_of_layout(pose), own, align)
        return openpose_frames(fitted), openpose_frames(own), image_of([place(picture, placement)])


class PoseDanceDrawControl:
    """Poses drawn as the control frames that ControlNeXt was trained on."""

    TITLE = "Draw Control"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("control",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "pose": ("POSE_KEYPOINT",),
                "canvas": (
                    "INT",
                    {
                        "default": 2160,
                        "min": 8,
                        "max": 8192,
                        "tooltip": "Short side that is drawn at: 2160 as published; small models name less.",
                    },
                ),
            },
            "optional": {
                "reference_pose": (
                    "POSE_KEYPOINT",
                    {"tooltip": "The character's own pose: drawn first, as Animate expects it."},
                )
            },
        }

    def draw(self, pose: list[Any], canvas: int, reference_pose: list[Any] | None = None) -> tuple[Any, ...]:
        given = [pose] if reference_pose is None else [reference_pose, pose]
        progress = Progress(sum(len(each) for each in given))
        drawn = []
        for poses in map(poses_of_layout, given):
            drawn += progress.over(draw_control_frames(poses, *poses.size, canvas))
        return (image_of(drawn),)


class PoseDanceAnimate:
    """The character doing the dance: a model's frames for a reference and control frames."""

    TITLE = "Animate"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("frames",)
    FUNCTION = "animate"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "reference": ("IMAGE",),
                "control": ("IMAGE", {"tooltip": "Of Draw Control, the character's own pose first."}),
                "model": (
                    "STRING",
                    {
                        "default": "demo",
                        "tooltip": "demo, tiny-random, a folder, or one in models/posedance.",
                    },
                ),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's."}),
                "window": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's."}),
                "overlap": ("INT", {"default": -1, "min": -1, "max": 1000, "tooltip": "-1: the model's."}),
                "guidance_scale": (
                    "FLOAT",
                    {"default": -1.0, "min": -1.0, "max": 100.0, "step": 0.1, "tooltip": "-1: the model's."},
                ),
            }
        }

    def animate(
        self,
        reference: torch.Tensor,
        control: torch.Tensor,
        model: str,
        seed: int,
        steps: int,
        window: int,
        overlap: int,
        guidance_scale: float,
    ) -> tuple[Any, ...]:
        generator = opened(model_named(model), str(comfy.model_management.get_torch_device()))
        settings = generator.settings(window or None)
        settings = replace(
            settings,
            seed=seed,
            steps=steps or settings.steps,
            window_overlap=settings.window_overlap if overlap < 0 else overlap,
            guidance_scale=settings.guidance_scale if guidance_scale < 0 else guidance_scale,
        )
        progress = Progress(settings.steps + len(control) - 1)
        latents = generator.denoise(
            frames_of(reference)[0],
            frames_of(control),
            settings,
            on_window=progress.check,
            on_step=progress.step,
        )
        return (image_of(progress.over(generator.decode(latents, settings))),)


@lru_cache(maxsize=1)
def opened(model: str, device: str) -> Generator:
    """The model, kept until another is asked for."""
    return load_generator(model, device=device)


class PoseDanceAnimatic:
    """The dance before any model: the character as a figure of paper, bent along the dancer's bones."""

    TITLE = "Animatic"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("frames",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "reference": ("IMAGE",),
                "reference_pose": ("POSE_KEYPOINT",),
                "pose": ("POSE_KEYPOINT",),
            }
        }

    def draw(self, reference: torch.Tensor, reference_pose: list[Any], pose: list[Any]) -> tuple[Any, ...]:
        figure = PaperFigure(frames_of(reference)[0], poses_of_layout(reference_pose)[:1])
        poses = poses_of_layout(pose)
        drawn = (figure.draw(*one) for one in zip(poses.keypoints, poses.scores, strict=True))
        return (image_of(Progress(len(poses)).over(drawn)),)


class PoseDanceSave:
    """Frames, and sound where there is some, as an mp4 in the output folder."""

    TITLE = "Save"
    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Types:  # noqa: N802
        return {
            "required": {
                "frames": ("IMAGE",),
                "fps": ("FLOAT", {"default": 15.0, "min": 0.01, "max": 1000.0, "step": 0.01}),
                "filename_prefix": ("STRING", {"default": "posedance"}),
                "crf": (
                    "INT",
                    {"default": 18, "min": 0, "max": 51, "tooltip": "Lower is better, and larger."},
                ),
            },
            "optional": {"audio": ("AUDIO",)},
        }

    def save(
        self,
        frames: torch.Tensor,
        fps: float,
        filename_prefix: str,
        crf: int,
        audio: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        height, width = frames.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        path = Path(folder, f"{name}_{counter:05}_.mp4")
        with tempfile.TemporaryDirectory() as scratch:
            source = None
            if audio is not None:
                source = AudioSource(Path(scratch, "sound.wav"))
                write_sound(source.path, sound_of(audio))
            with VideoWriter(path, width, height, rate_of(fps), source, crf=crf) as writer:
                for frame in Progress(len(frames)).over(each_frame(frames)):
                    writer.write(frame)
        shown = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return {"ui": {"images": [shown], "animated": (True,)}, "result": (str(path),)}


def each_frame(image: torch.Tensor) -> Any:
    """The frames of an IMAGE, turned one at a time."""
    return (np.ascontiguousarray(frames_of(frame[None])[0]) for frame in image)


NODES = (
    PoseDanceLoadDriving,
    PoseDanceEstimatePose,
    PoseDanceFitPose,
    PoseDanceDrawControl,
    PoseDanceAnimate,
    PoseDanceAnimatic,
    PoseDanceSave,
)

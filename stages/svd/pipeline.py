"""A model folder as a diffusers pipeline, for people who work in diffusers.

    pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
    frames = pipe(image, control_frames, num_inference_steps=25).frames[0]

It holds the folder's networks as its components and samples with our own generator, to the same frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils.outputs import BaseOutput
from PIL import Image
from torch import Generator, Tensor, nn
from torch import device as Device
from transformers import CLIPVisionModelWithProjection

from ..control import ControlModule
from ..errors import ConfigError
from ..media.picture import fit_cover, to_rgb
from .files.folder import NETWORKS, generator_of
from .files.record import record_of
from .generator import SvdGenerator

Picture = Image.Image | np.ndarray
"""A PIL image, or uint8 [H, W, 3]."""


@dataclass
class PosedancePipelineOutput(BaseOutput):
    """`frames`: one video in a list, as PIL images or uint8 [N, H, W, 3]; or its latents [N, 4, h, w]."""

    frames: list[Any] | Tensor


class PosedancePipeline(DiffusionPipeline):
    """ControlNeXt or MimicMotion on Stable Video Diffusion. `record` is the content of `posedance.json`."""

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        controlnext: ControlModule,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        scheduler: EulerDiscreteScheduler,
        record: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._placed: Device | None = None
        if record is None:
            raise ConfigError("model_index.json has no record: convert the weights again with run.py convert")
        nn.Module.to(
            image_encoder, unet.dtype
        )  # transformers takes the dtype of the file, diffusers does not
        self.register_modules(
            unet=unet, controlnext=controlnext, vae=vae, image_encoder=image_encoder, scheduler=scheduler
        )
        for name in NETWORKS:
            align(getattr(self, name))
        self.register_to_config(record=record)
        self.svd_generator()

    def svd_generator(self) -> SvdGenerator:
        """The components as a generator on their device; sets the group counts of their norms."""
        parts: Any = self
        networks = {name: getattr(parts, name) for name in NETWORKS}
        record = record_of(parts.config["record"], "model_index.json")
        scheduler = dict(parts.scheduler.config)
        generator = generator_of(record, "posedance", scheduler, networks)
        generator.device = self._placed or parts.unet.device
        return generator

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the pipeline as diffusers does, and remember where it works.

        A memory plan may leave networks on the CPU after a call; the next one still works on the device.
        """
        super().to(*args, **kwargs)
        parts: Any = self
        self._placed = parts.unet.device
        return self

    def __call__(
        self,
        image: Picture,
        control_frames: Sequence[Picture] | np.ndarray,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window_size: int | None = None,
        window_overlap: int | None = None,
        decode_chunk_size: int | None = None,
        generator: Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> PosedancePipelineOutput | tuple[Any]:
        """Make the character in `image` do the dance in `control_frames`; what is None is the model's own.

        Args:
            image: the character, resized to cover the control frames' size and cropped to it.
            control_frames: N drawn poses of one size (`stages.pose.render.draw_control_frames`). The first
                is the reference's own pose, and the result has the N - 1 frames of the others.
            generator: its initial seed is the video's seed (0 if None); nothing is drawn from it.
            output_type: "pil", "np" or "latent" (N latents, the reference's first, times the scaling factor).

        Raises ConfigError for what the model cannot make.
        """
        if output_type not in ("pil", "np", "latent"):
            raise ConfigError(f"unknown output_type {output_type!r}: use pil, np or latent")
        frames = [pixels(frame, f"control frame {i}") for i, frame in enumerate(control_frames)]
        if len({frame.shape for frame in frames}) != 1:
            raise ConfigError(f"{len(frames)} control frames: give several, all of one size")
        drawn = np.stack(frames)
        height, width = drawn.shape[1:3]
        named = {
            "steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "window_size": window_size,
            "window_overlap": window_overlap,
            "decode_chunk": decode_chunk_size,
            "seed": None if generator is None else generator.initial_seed(),
        }
        given: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        model = self.svd_generator()
        settings = replace(model.settings(window_size), **given)
        published = settings.is_recipe
        reference = fit_cover(pixels(image, "image"), width, height, published=published)
        parts: Any = self
        with parts.progress_bar(total=settings.steps) as bar:
            latents = model.denoise(reference, drawn, settings, on_step=lambda step, latents: bar.update())
        if output_type == "latent":
            made = latents
        else:
            decoded = list(model.decode(latents, settings))
            made = [np.stack(decoded) if output_type == "np" else [Image.fromarray(f) for f in decoded]]
        return PosedancePipelineOutput(frames=made) if return_dict else (made,)


def pixels(picture: Picture, name: str) -> np.ndarray:
    """uint8 [H, W, 3], RGB. Raises ConfigError, which begins with `name`, for an array of another kind."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture, name)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ConfigError(f"{name} is {picture.dtype} {list(picture.shape)}: give uint8 [H, W, 3], RGB")
    return picture


ALIGNMENT = 64
"""Bytes: a cache line, and what torch's own allocator gives."""


def align(network: nn.Module) -> None:
    """Move weights that start anywhere, as in a file that diffusers maps, to memory of their own, in place.

    CPU kernels choose their order of sums by alignment: without this the frames differ by rounding.
    """
    for parameter in network.parameters():
        if parameter.device.type == "cpu" and parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()

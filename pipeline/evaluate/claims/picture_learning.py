"""How soon pictures are controlled: ControlNeXt beside diffusers' ControlNet on the same small base.

- The base stands for a pretrained Stable Diffusion 1.5: a small `UNet2DConditionModel`, at first random, that
  learns to draw dancers from their prompts without any pose. Text encoder, VAE and schedule are the shipped
  painter's; its UNet would not do, since it has grown up with ControlNeXt.
- Both ways start from this base and learn from the same pictures with the same noise, steps and seed, at one
  learning rate, and the same part of the base learns along in both.
- The loss is that of held-out pictures, the mean over three timesteps. Pose error is the wrists', in percent
  of the height, in what diffusers' own pipelines paint of characters and motions never seen (`pose_errors`).
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from torch import Tensor, nn

from ....datasets.clips import BadRecord
from ....datasets.pictures import Pictures, PictureSample
from ....stages.image.attach import attach
from ....stages.image.bases import load_base
from ....stages.image.models import painter_of
from ....stages.pixels import to_unit
from ...job.job import hold_folder
from ...progress import stage
from ...train.data import batches_of, seeded
from ...train.image.task import PictureTask
from ...train.image.train import identity_of_pictures
from ...train.image.validation import LEVELS, held_out_pictures
from ...train.log import Log
from ...train.loop import run_loop
from ..model import HeldOutClip, held_out
from .claims import read_figures
from .controlnet import HINT_CHANNELS
from .picture_config import PictureClaimsConfig
from .task import APART, BASE, CONTROLNET, CONTROLNEXT, pose_errors

logger = logging.getLogger(__name__)

WAYS = (CONTROLNEXT, CONTROLNET)
STEPS = 10
"""Denoising steps of a picture that is measured."""
PICTURES = 32
"""Held-out pictures whose loss is taken."""


class PictureClaimsTask(PictureTask):
    """Pictures from prompts, with one of WAYS to control them, or as BASE without any.

    Args:
        pictures: to learn from, kept in memory; `modes` are their latents. All tasks share them.
        held: clips, every APART-th frame of which is painted, at the steps `moments` only.
    """

    def __init__(
        self,
        method: str,
        config: PictureClaimsConfig,
        pipeline: Any,
        pictures: Pictures,
        modes: dict[int, Tensor],
        held: list[HeldOutClip],
    ) -> None:
        super().__init__(config.training(method, method == BASE), pipeline)
        self.method, self.pictures, self.held, self.size = (
            method,
            pictures,
            held,
            (config.width, config.height),
        )
        self.moments = frozenset(() if method == BASE else config.measured_at)
        self._modes = modes
        self._hint: Tensor | None = None
        self.controlnet: ControlNetModel | None = None
        if method == CONTROLNET:
            hints = HINT_CHANNELS[: len(self.pipeline.vae.config["block_out_channels"])]
            torch.manual_seed(config.seed)
            self.controlnet = ControlNetModel.from_unet(
                cast(UNet2DConditionModel, self.network), conditioning_embedding_out_channels=hints
            ).requires_grad_(True)

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self.controlnet is not None:
            self.controlnet.to(device)  # pyright: ignore[reportArgumentType]

    def control(self) -> nn.Module | None:
        """What learns to control, None of the base."""
        return None if self.method == BASE else self.controlnet or self.module

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        chosen = [(f"network.{name}", self.network.get_parameter(name)) for name in self.learned]
        control = self.control()
        if control is not None:
            chosen += [(f"control.{name}", p) for name, p in control.named_parameters()]
        return chosen

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[PictureSample | BadRecord]]:
        return batches_of(self.pictures, self.config.loop, self.config.batch, start, stop, micros, 0)

    def losses(
        self,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        condition: Tensor | None,
        words: Mapping[str, Tensor],
        counted: Tensor | None = None,
    ) -> Tensor:
        self._hint = condition
        shown = condition if self.method == CONTROLNEXT else None
        return super().losses(latents, noise, timesteps, shown, words, counted)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, words: Mapping[str, Tensor], size: tuple[int, int]
    ) -> Tensor:
        if self.controlnet is None:
            return super().predict(noisy, timesteps, words, size)
        assert self._hint is not None
        down, middle = self.controlnet(
            noisy, timesteps, words["text"], controlnet_cond=self._hint, return_dict=False
        )
        return self.network(
            noisy,
            timesteps,
            words["text"],
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample

    def validate(self, step: int, log: Log) -> dict[str, float]:
        return self.figures() if step in self.moments else {}

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Held-out loss, and how far from the asked poses those of painted pictures are."""
        found = {"loss": self.held_out_loss(), **pose_errors(self.held, [self.paint(c) for c in self.held])}
        self.injection.features = None
        return found

    def held_out_loss(self) -> float:
        """Mean over LEVELS and PICTURES that the training does not have, every place counting alike."""
        samples = held_out_pictures(self.config.data, PICTURES)
        latents = self.encode(np.stack([sample.picture for sample in samples]))
        noise = torch.randn(latents.shape, generator=seeded(1, 0)).to(self.device)
        condition = to_unit(np.stack([sample.condition for sample in samples])).to(self.device)
        words = self.words([sample.prompt for sample in samples])
        shares = [torch.full((len(samples),), 1000 * share, device=self.device).long() for share in LEVELS]
        each = [self.losses(latents, noise, times, condition, words).mean() for times in shares]
        return float(torch.stack(each).mean())

    def paint(self, clip: HeldOutClip) -> np.ndarray:
        """Pictures uint8 [T, H, W, 3] in the poses of every APART-th frame of a clip, by diffusers' loop."""
        drawn = to_unit(clip.control[1::APART]).to(self.device)
        asked = {
            "prompt": [clip.prompt] * len(drawn),
            "width": self.size[0],
            "height": self.size[1],
            "num_inference_steps": STEPS,
            "guidance_scale": 1.0,
            "generator": seeded(2, 0),
            "output_type": "np",
        }
        self.injection.features = None
        if self.controlnet is not None:
            parts = self.pipeline.components | {"controlnet": self.controlnet}
            pipeline: Any = StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False)
            pipeline.set_progress_bar_config(disable=True)
            made = pipeline(**asked, image=drawn).images
        else:
            self.pipeline.set_progress_bar_config(disable=True)
            if self.method == BASE:
                made = self.pipeline(**asked).images
            else:
                with attach(self.pipeline, self.module, drawn):
                    made = self.pipeline(**asked).images
        return (255 * made).round().astype(np.uint8)


def compare_learning(config: PictureClaimsConfig) -> dict[str, Any]:
    """Train the base and both ways of control, or go on with them; what each learned by which step.

    Raises OutputError where another process works in the folder.
    """
    size = config.width, config.height
    with hold_folder(config.output):
        held: list[HeldOutClip] = []
        with stage("draw", config.held_out, "clip") as done:
            for number in range(config.held_out):
                held.append(held_out(config.seed, number, APART * config.moments, size, config.canvas))
                done(1)
        pictures = config.training(BASE, base=True).data.training()
        modes: dict[int, Tensor] = {}
        base = run(PictureClaimsTask(BASE, config, new_base(config), pictures, modes, held), config)
        state = {name: value.clone() for name, value in base.network.state_dict().items()}
        results: dict[str, Any] = {}
        for way in WAYS:
            task = PictureClaimsTask(way, config, new_base(config, state), pictures, modes, held)
            run(task, config)
            results[way] = {
                "control_parameters": sum(p.numel() for p in cast(nn.Module, task.control()).parameters()),
                "at_step": read_figures(task.config.output, config.measured_at, "pose_error_percent"),
            }
    return {"ways": results, "without_control": base.figures()}


def run(task: PictureClaimsTask, config: PictureClaimsConfig) -> PictureClaimsTask:
    """Train a task, or go on with it; it has the averaged weights then."""
    loop = task.config.loop
    logger.info(f"{task.method}: {loop.steps} steps")
    identity = identity_of_pictures(task.config) | {
        "method": task.method,
        "widths": list(config.widths),
        "base_steps": config.base_steps,
    }
    run_loop(task, loop, task.config.output, identity, task.validate).swap()
    return task


def new_base(config: PictureClaimsConfig, state: Mapping[str, Tensor] | None = None) -> Any:
    """The shipped painter's pipeline with a small UNet in place of its own, random or with these weights."""
    pipeline = load_base(painter_of("character").base)
    torch.manual_seed(config.seed)
    unet = UNet2DConditionModel(
        in_channels=pipeline.vae.config["latent_channels"],
        out_channels=pipeline.vae.config["latent_channels"],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),  # pyright: ignore[reportArgumentType]
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),  # pyright: ignore[reportArgumentType]
        block_out_channels=config.widths,  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        attention_head_dim=2,  # diffusers takes it for the number of heads
        cross_attention_dim=pipeline.text_encoder.config.hidden_size,
        norm_num_groups=8,
    )
    if state is not None:
        unet.load_state_dict(state)
    pipeline.register_modules(unet=unet)
    return pipeline

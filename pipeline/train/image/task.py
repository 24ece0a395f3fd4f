"""What the training for pictures learns: to denoise pictures under control, by the base's own loss."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from ....datasets.clips import BadRecord
from ....datasets.pictures import PictureSample
from ....stages.controlnext.model import ControlNeXt
from ....stages.errors import ConfigError
from ....stages.image.attach import network_of
from ....stages.image.bases import load_base
from ....stages.image.families import Family, family_of, inject, new_module
from ....stages.image.weights import load_control
from ....stages.pixels import to_signed, to_unit
from ..data import batches_of, seeded
from ..model import ControlNeXtConfig
from .config import ImageTrainConfig
from .start import SMALL, small_base

LEARNING: dict[str, str] = {
    "sd15": "to_out",
    "sd15-v2": "to_out",
    "sdxl": "attn2.*to_out",
    "sd3": r"\.attn\.to_out\.",
}
"""The published choices of what learns beside the module, by family; SD3's is ours, the image stream's."""
BINS = {"low": (0.0, 0.25), "middle": (0.25, 0.6), "high": (0.6, 1.0)}
"""Losses are logged by the share of the noise that a sample's timestep stands for."""


DRAWN = 0.1
"""Brightness from which a condition shows something."""
NEAR = 14
"""Parts of the height, one of which a drawn line's reach is."""


class PictureTask:
    """Denoising of pictures under control. `module` is a ready control module; else the config names one."""

    def __init__(
        self, config: ImageTrainConfig, pipeline: Any = None, module: ControlNeXt | None = None
    ) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        if pipeline is None and config.base in SMALL:
            pipeline, module = small_base(config.base, config.words)
        self.pipeline = pipeline or load_base(config.base, config=config.base_config)
        self.network = network_of(self.pipeline)
        self.module = module or module_for(config, self.network)
        self.family: Family = family_of(self.network, self.module)
        for part in self.pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        nn.Module.requires_grad_(self.module, True)
        self.learned = learning_names(self.network, config.learn, self.family)
        self.before: dict[str, Tensor] = {}
        for name in self.learned:
            parameter = self.network.get_parameter(name).requires_grad_(True)
            if config.save == "increments" and not parameter.is_meta:
                self.before[name] = parameter.detach().cpu().clone()
        if config.gradient_checkpointing:
            cast(Any, self.network).enable_gradient_checkpointing()
        self.injection = inject(self.network, self.module, config.scale, config.block)
        self.scheduler = self.pipeline.scheduler
        self._modes: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device) -> None:
        self.pipeline.to(device)
        nn.Module.to(self.module, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        chosen = [(f"controlnext.{name}", p) for name, p in self.module.named_parameters()]
        return chosen + [(f"network.{name}", self.network.get_parameter(name)) for name in self.learned]

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[PictureSample | BadRecord]]:
        data = self.config.data
        return batches_of(
            data.training(), self.config.loop, self.config.batch, start, stop, micros, data.workers
        )

    def loss(self, step: int, micro: int, batch: list[PictureSample]) -> tuple[Tensor, dict[str, float]]:
        generator = seeded(self.config.loop.seed, step, micro)
        dropped = torch.rand(len(batch), generator=generator) < self.config.prompt_dropout
        prompts = ["" if gone else s.prompt for gone, s in zip(dropped.tolist(), batch, strict=True)]
        latents = self.latents(batch, generator)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        timesteps = self.draw_timesteps(len(batch), generator).to(self.device)
        condition = to_unit(np.stack([sample.condition for sample in batch])).to(self.device)
        counted = None
        if self.config.figure != 1:
            counted = figure_weights(condition, (latents.shape[-2], latents.shape[-1]), self.config.figure)
        losses = self.losses(latents, noise, timesteps, condition, self.words(prompts), counted)
        return losses.mean(), by_timestep(losses.detach(), timesteps)

    def latents(self, batch: list[PictureSample], generator: torch.Generator) -> Tensor:
        """Scaled latents of a batch: drawn, or the modes that are kept in memory with the pictures."""
        if not self.config.data.keep:
            return self.encode(np.stack([sample.picture for sample in batch]), generator)
        for sample in batch:
            if sample.number not in self._modes:
                self._modes[sample.number] = self.encode(sample.picture[None])[0]
        return torch.stack([self._modes[sample.number] for sample in batch])

    @torch.no_grad()
    def encode(self, pictures: np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents [N, C, h, w] of uint8 [N, H, W, 3]: drawn, or without a generator their mode."""
        vae = self.pipeline.vae
        found = vae.encode(to_signed(pictures).to(vae.device), return_dict=False)[0]
        if generator is None:
            latents = found.mode()
        else:
            latents = found.mean + found.std * torch.randn(found.mean.shape, generator=generator).to(
                vae.device
            )
        return (latents - (vae.config.get("shift_factor") or 0.0)) * vae.config["scaling_factor"]

    @torch.no_grad()
    def words(self, prompts: list[str]) -> dict[str, Tensor]:
        """What the network reads of prompts: `text` [N, T, D] and, but for SD1.5, `pooled` [N, D]."""
        asked: dict[str, Any] = {"device": self.device, "num_images_per_prompt": 1}
        asked["do_classifier_free_guidance"] = False
        if self.family == "sd3":
            asked |= {"prompt_2": None, "prompt_3": None}
        found = self.pipeline.encode_prompt(prompts, **asked)
        return {"text": found[0]} | ({"pooled": found[2]} if len(found) == 4 else {})

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps [N]: uniform whole ones, and logit-normal shares of the noise times 1000 for SD3.

        Esser et al., "Scaling Rectified Flow Transformers", 2024 (arXiv:2403.03206), section 3.1, with the
        scheduler's shift (section 5.3.2).
        """
        steps = int(self.scheduler.config["num_train_timesteps"])
        if self.family != "sd3":
            return torch.randint(0, steps, (count,), generator=generator)
        share = torch.sigmoid(torch.randn(count, generator=generator))
        shift = float(self.scheduler.config.get("shift", 1.0))
        return steps * shift * share / (1 + (shift - 1) * share)

    def losses(
        self,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        condition: Tensor | None,
        words: Mapping[str, Tensor],
        counted: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of each of N samples [N]; without a condition the network works uncontrolled.

        `counted` [N, 1, h, w] says how much each place counts, all alike without.

        The target is noise or velocity, as the base's scheduler says, and noise - latents for SD3. The
        features stay with the injection: checkpointed blocks ask for them again in the backward pass.
        """
        noisy, target = self.noised(latents, noise, timesteps)
        features = None if condition is None else self.module(condition[:, None], timesteps)
        self.injection.features, self.injection.scale = features, 1.0
        predicted = self.predict(noisy, timesteps, words, condition_size(latents, self.pipeline))
        squared = F.mse_loss(predicted.float(), target.float(), reduction="none")
        if counted is not None:
            squared = squared * counted
        return squared.mean((1, 2, 3))

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents and what the network should say of them."""
        if self.family == "sd3":
            share = (timesteps / self.scheduler.config["num_train_timesteps"])[:, None, None, None]
            return (1 - share) * latents + share * noise, noise - latents
        scheduler: Any = DDPMScheduler.from_config(self.scheduler.config)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        kind = scheduler.config["prediction_type"]
        if kind == "epsilon":
            return noisy, noise
        if kind == "v_prediction":
            return noisy, scheduler.get_velocity(latents, noise, timesteps)
        raise ConfigError(f"the base predicts {kind!r}: only epsilon and v_prediction can be learned")

    def predict(
        self, noisy: Tensor, timesteps: Tensor, words: Mapping[str, Tensor], size: tuple[int, int]
    ) -> Tensor:
        """The network's prediction for pictures of `size` (height, width)."""
        if self.family == "sd3":
            return self.network(
                hidden_states=noisy,
                timestep=timesteps,
                encoder_hidden_states=words["text"],
                pooled_projections=words["pooled"],
            ).sample
        added = {}
        if "pooled" in words:
            ids = torch.tensor([*size, 0, 0, *size], dtype=words["text"].dtype, device=noisy.device)
            added = {"text_embeds": words["pooled"], "time_ids": words.get("ids", ids.expand(len(noisy), -1))}
        return self.network(noisy, timesteps, words["text"], added_cond_kwargs=added).sample


def figure_weights(condition: Tensor, size: tuple[int, int], figure: float) -> Tensor:
    """How much each latent counts [N, 1, h, w]: `figure` near what conditions [N, 3, H, W] show, else 1.

    Near is within a fourteenth of the height, so that shoes are.
    """
    drawn = F.adaptive_max_pool2d(condition.amax(1, keepdim=True), size) > DRAWN
    reach = max(1, size[0] // NEAR)
    near = F.max_pool2d(drawn.float(), 2 * reach + 1, stride=1, padding=reach)
    return 1 + (figure - 1) * near


def condition_size(latents: Tensor, pipeline: Any) -> tuple[int, int]:
    """Height and width of the pictures of these latents."""
    factor = 2 ** (len(pipeline.vae.config["block_out_channels"]) - 1)
    return latents.shape[-2] * factor, latents.shape[-1] * factor


def module_for(config: ImageTrainConfig, network: nn.Module) -> ControlNeXt:
    """The module that the config names, in float32, or a new one; seed torch first."""
    if config.controlnext is not None:
        module = load_control(config.controlnext)
        nn.Module.float(module)
        return module
    return new_module(network, **({} if config.new is None else sizes_of(config.new)))


def sizes_of(config: ControlNeXtConfig) -> dict[str, Any]:
    """A new module's sizes, as ControlNeXt calls them."""
    return {
        "time_embed_dim": 2 * config.time,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "groups": config.groups,
        "stem_channels": config.stem,
        "stem_groups": config.stem_groups,
        "mid_groups": config.mid_groups,
        "time_proj_channels": config.time,
        "stem_padding": config.padding,
    }


def learning_names(network: nn.Module, learn: str | None, family: Family) -> list[str]:
    """Names of the network's parameters that learn. ConfigError for a pattern that is none, or names none."""
    pattern = {None: LEARNING[family], "none": "", "all": "."}.get(learn, learn)
    if not pattern:
        return []
    try:
        found = [name for name, _ in network.named_parameters() if re.search(pattern, name)]
    except re.error as error:
        raise ConfigError(f"learn {pattern!r} is no regular expression: {error}") from error
    if not found:
        raise ConfigError(f"learn {pattern!r} names no parameter of the network: choose another, or none")
    return found


def by_timestep(losses: Tensor, timesteps: Tensor) -> dict[str, float]:
    """Mean losses by timestep, for the log."""
    share = timesteps.float() / 1000
    return {
        f"loss_{name}": float(losses[inside].mean())
        for name, (low, high) in BINS.items()
        if bool((inside := (share >= low) & (share < high)).any())
    }

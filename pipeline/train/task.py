"""What the training of ControlNeXt and the UNet learns: to denoise clips, by the loss of the denoiser."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.clips import BadRecord, Clip, loss_weights
from ...datasets.puppets.render import PARTS
from ...stages.pixels import to_signed, to_unit
from ...stages.svd.conditioning import MicroConditioning, clip_pixels
from ...stages.svd.denoiser import Conditioning, Denoiser, Loss
from ...stages.svd.levers.checkpointing import checkpoint_blocks, checkpoint_whole
from ...stages.svd.levers.collapse import collapse
from ...stages.svd.levers.temporal import without_temporal
from .config import TrainConfig
from .data import clip_batches, seeded
from .encoder import palette_loss, presence
from .latents import LatentCache, latents_folder
from .learning import learning_of, put_lora_on
from .model import Parts, load_parts
from .vae import posterior

SIGMA_BINS = (0.5, 2.0, 8.0)
"""Losses are logged below, between and above these noise levels."""


class VideoTask:
    """What `train` learns: the denoising of clips, drawn or of files."""

    def __init__(self, config: TrainConfig, parts: Parts | None = None) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.parts = parts or load_parts(config.model)
        self.parts.vae.requires_grad_(False).eval()
        self.parts.image_encoder.requires_grad_(config.palette > 0).eval()
        if config.lora_rank is not None:
            put_lora_on(self.parts.unet, config.learn, config.video, config.lora_rank)
        if config.gradient_checkpointing:
            checkpoint_blocks(self.parts.unet)
            checkpoint_whole(self.parts.networks()["controlnext"])
        self.injection = self.parts.controlnext.attach(self.parts.unet, config.model.strength)
        collapse(self.parts.unet)
        self.denoiser = Denoiser(self.parts.unet, self.parts.controlnext, self.injection)
        self.modules: Mapping[str, nn.Module] = {
            "unet": self.parts.unet,
            "controlnext": self.parts.networks()["controlnext"],
        }
        if config.palette > 0:
            self.reader = nn.Linear(self.parts.image_encoder.config.projection_dim, 4 * len(PARTS))
            self.modules = {
                **self.modules,
                "image_encoder": self.parts.image_encoder,
                "reader": self.reader,
            }
        self.sigmas = config.sigma.distribution()
        self.cache = LatentCache(config.cache_latents, latents_folder(config, self.parts))

    @property
    def device(self) -> torch.device:
        return next(self.parts.unet.parameters()).device  # the model's own property looks at every module

    def to(self, device: torch.device) -> None:
        for network in (*self.modules.values(), *self.parts.networks().values()):
            nn.Module.to(network, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        config = self.config
        chosen = [(f"controlnext.{name}", p) for name, p in self.modules["controlnext"].named_parameters()]
        unet = learning_of(self.parts.unet, config.learn, config.video)
        chosen += [(f"unet.{name}", p) for name, p in unet]
        if config.palette > 0:
            for key in ("image_encoder", "reader"):
                chosen += [(f"{key}.{name}", p) for name, p in self.modules[key].named_parameters()]
        return chosen

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[Clip | BadRecord]]:
        config = self.config
        return clip_batches(config.data, config.loop, config.batch, start, stop, micros)

    @torch.no_grad()
    def encode(self, clip: Clip, frame: int) -> Tensor:
        """Latents [C, h, w] of a frame: mode, not scaled.

        One frame at a time, so that they do not depend on what else is in the batch.
        """

        def latents() -> Tensor:
            pixels = to_signed(clip.frames[frame][None]).to(self.device)
            return posterior(self.parts.vae, pixels).mode()[0]

        return self.cache.once("latents", clip.number, frame, latents).to(self.device)

    @torch.no_grad()
    def token(self, clip: Clip, frame: int) -> Tensor:
        """The token [D] of a frame, by an image encoder at rest."""

        def token() -> Tensor:
            return self.parts.image_encoder(self.pixels(clip, frame)[None]).image_embeds[0]

        return self.cache.once("token", clip.number, frame, token).to(self.device)

    def tokens(self, shown: list[tuple[Clip, int]]) -> Tensor:
        """Tokens [n, D] of n frames: made anew by an image encoder that learns, else kept ones."""
        if self.config.palette > 0:
            pixels = torch.stack([self.pixels(*one) for one in shown])
            return self.parts.image_encoder(pixels).image_embeds
        return torch.stack([self.token(*one) for one in shown])

    def pixels(self, clip: Clip, frame: int) -> Tensor:
        """Pixel values [3, S, S] of a frame for the image encoder."""
        encoder: Any = self.parts.image_encoder
        return clip_pixels(clip.frames[frame], encoder.config.image_size)[0].to(self.device)

    @torch.no_grad()
    def reference_latents(self, frame: np.ndarray, generator: torch.Generator) -> Tensor:
        """Latents [C, h, w] of a reference uint8 [H, W, 3] with the model's augmentation noise."""
        pixels = to_signed(frame[None])
        noise = torch.randn(pixels.shape, generator=generator)
        noisy = (pixels + self.config.model.noise_aug * noise).to(self.device)
        return posterior(self.parts.vae, noisy).mode()[0]

    def draw(self, clip: Clip, generator: torch.Generator) -> list[tuple[int, list[int]]]:
        """What to learn from a clip: pairs of a reference and the frames to make from it."""
        count = len(clip.frames)
        if self.config.video:
            return [(0, list(range(count)))]
        pairs = []
        for _ in range(self.config.targets):
            still, any_frame, target = torch.rand(3, generator=generator).tolist()
            reference = 0 if still < self.config.still_reference else int(any_frame * count)
            pairs.append((reference, [int(target * count)]))
        return pairs

    def loss(self, step: int, micro: int, batch: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        generator = seeded(self.config.loop.seed, step, micro)
        pairs = [self.draw(clip, generator) for clip in batch]
        if self.config.palette == 0:
            result = self.denoise_loss(batch, pairs, generator)
            return result.value, by_sigma(result)
        shown = [(clip, frame) for clip, chosen in zip(batch, pairs, strict=True) for frame, _ in chosen]
        tokens = self.tokens(shown)
        result = self.denoise_loss(batch, pairs, generator, tokens=tokens)
        error, logs = palette_loss(self.reader(tokens), [presence(*one) for one in shown])
        return result.value + self.config.palette * error, by_sigma(result) | logs

    def denoise_loss(
        self,
        batch: list[Clip],
        pairs: list[list[tuple[int, list[int]]]],
        generator: torch.Generator,
        sigma: float | None = None,
        tokens: Tensor | None = None,
    ) -> Loss:
        """The loss of the chosen references and frames; at one noise level without dropout if given.

        `tokens` [n, D] are those of the references where they are made already.
        """
        config = self.config
        latents, control, weights, references, shown = [], [], [], [], []
        for clip, chosen in zip(batch, pairs, strict=True):
            for reference, frames in chosen:
                latents.append(torch.stack([self.encode(clip, frame) for frame in frames]))
                control.append(to_unit(clip.control[frames]))
                places = config.weights.body, config.weights.face, config.weights.small
                weights.append(torch.from_numpy(loss_weights(clip.parts[frames], *places)))
                shown.append((clip, reference))
                if config.model.noise_aug > 0:
                    references.append(self.reference_latents(clip.frames[reference], generator))
                else:
                    references.append(self.encode(clip, reference))
        x0 = torch.stack(latents) * float(self.parts.vae.config["scaling_factor"])
        height, width = x0.shape[-2:]
        weight = F.adaptive_avg_pool2d(torch.stack(weights), (height, width))[:, :, None].to(self.device)
        conditioning = Conditioning(
            (self.tokens(shown) if tokens is None else tokens)[:, None],
            torch.stack(references),
            self.numbers().time_ids().to(self.device).expand(len(x0), -1),
        )
        control_frames = torch.stack(control).to(self.device)
        loss = partial(self.denoiser.loss, x0, control_frames, conditioning, generator, weight=weight)
        with nullcontext() if config.video else without_temporal(self.parts.unet):
            if sigma is None:
                return loss(distribution=self.sigmas, dropout=config.dropout.ranges())
            return loss(sigma=torch.full((len(x0),), sigma))

    def numbers(self) -> MicroConditioning:
        return MicroConditioning(noise_aug=self.config.model.noise_aug)


def by_sigma(loss: Loss) -> dict[str, float]:
    """Mean losses by noise level, for the log."""
    names = ("loss_sigma_low", "loss_sigma_middle", "loss_sigma_high", "loss_sigma_highest")
    bins, losses = torch.bucketize(loss.sigma.cpu(), torch.tensor(SIGMA_BINS)), loss.per_sample.cpu()
    return {name: float(losses[bins == i].mean()) for i, name in enumerate(names) if bool((bins == i).any())}

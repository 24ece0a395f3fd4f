"""Control in diffusers' own pipelines: the network's calls receive the features of condition pictures.

    with attach(pipeline, module, condition):
        picture = pipeline("a dancer in a red coat").images[0]

No pipeline is changed or written anew: hooks on the network see each call's timestep, run the module for it
and hand its features to the injection. Image-to-image, inpainting and LoRA weights work as they do without.
"""

import inspect
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..control import FrameFeatures
from ..controlnext.model import ControlNeXt
from ..errors import ConfigError
from .families import SD3_BLOCK, inject


class PictureControl:
    """The control of one network, until `detach`. Made by `attach`.

    `condition` float [K, 3, H, W], RGB in 0..1, and `scale` may be exchanged between two calls of the
    pipeline.
    """

    def __init__(
        self,
        network: nn.Module,
        pipeline: Any,
        module: ControlNeXt,
        condition: Tensor,
        scale: float | Tensor,
        interval: tuple[float, float],
        guess_mode: bool,
        block: int,
    ) -> None:
        self.condition = condition
        self.scale = scale
        self.module = module
        self._pipeline = pipeline
        self._interval = interval
        self._guess_mode = guess_mode
        self._encoded: tuple[Tensor, torch.device, torch.dtype, FrameFeatures] | None = None
        self._arguments = inspect.signature(type(network).forward)
        self.injection = inject(network, module, block=block)
        self._hooks = [
            network.register_forward_pre_hook(self._before, with_kwargs=True),
            network.register_forward_hook(self._after, always_call=True),
        ]

    def detach(self) -> None:
        """Remove all hooks; network and pipeline are as they were before."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.injection.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def _before(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = self._arguments.bind_partial(network, *args, **kwargs).arguments
        sample = given.get("sample", given.get("hidden_states"))
        assert isinstance(sample, Tensor)
        timestep = torch.as_tensor(given["timestep"]).reshape(-1)
        if self._is_on(timestep[0]):
            self.injection.features = self._features(sample, timestep)
            self.injection.scale = self.scale

    def _after(self, network: nn.Module, args: object, output: object) -> None:
        self.injection.features = None

    def _is_on(self, timestep: Tensor) -> bool:
        """Whether the step of this timestep lies within the interval, counted as diffusers does."""
        start, end = self._interval
        if (start, end) == (0.0, 1.0):
            return True
        count = self._pipeline.num_timesteps
        steps = self._pipeline.scheduler.timesteps[-count:].to(timestep.device)
        index = int((steps - timestep).abs().argmin())
        return index / count >= start and (index + 1) / count <= end

    def _features(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Features for the samples of a call [N, ...]; in guess mode for those of the conditional half."""
        count = len(sample)
        halves = 2 if getattr(self._pipeline, "do_classifier_free_guidance", False) else 1
        if self._guess_mode:
            count, halves, timestep = count // halves, 1, timestep[-(count // halves) :]
        encoded = self._encode(sample.device)
        if bool((timestep == timestep[0]).all()):
            features = self.module.apply_time(encoded, self.module.embed_time(timestep[:1], 1))
            return repeated(features, count, halves)
        embedding = self.module.embed_time(timestep, count)
        return self.module.apply_time(tuple(repeated(part, count, halves) for part in encoded), embedding)

    def _encode(self, device: torch.device) -> FrameFeatures:
        """What does not depend on the timestep, kept for all steps; the module follows the device."""
        if self.module.device != device:
            nn.Module.to(self.module, device)
        dtype = self.module.dtype
        if self._encoded is not None:
            condition, where, kind, features = self._encoded
            if condition is self.condition and where == device and kind == dtype:
                return features
        features = self.module.encode_frames(self.condition.to(device))
        self._encoded = self.condition, device, dtype, features
        return features


def attach(
    pipeline: Any,
    module: ControlNeXt,
    condition: Tensor,
    *,
    scale: float | Tensor = 1.0,
    start: float = 0.0,
    end: float = 1.0,
    guess_mode: bool = False,
    block: int = SD3_BLOCK,
) -> PictureControl:
    """Let `condition` control what a pipeline makes, until `PictureControl.detach` or the end of a `with`.

    Args:
        pipeline: of diffusers for SD1.5, SDXL or SD3, or its unmodified network alone.
        module: the ControlNeXt that was trained on this base; it decides where it joins, see `families`.
        condition: float [K, 3, H, W], RGB in 0..1, best of the picture's size; one for all, or one for each
            prompt.
        scale: how strongly it joins, times a scale that the module learned; 1.0 in the published scripts. A
            number, or one for each sample of the network's batch [N, 1, 1, 1].
        start, end: the part of the steps, in 0..1, in which it joins.
        guess_mode: under guidance, control the conditional half alone. As published, both halves are.
        block: of SD3, the joint block after which it joins.

    Raises ConfigError where module and network do not belong together, and for a choice that cannot be.
    """
    network = pipeline if isinstance(pipeline, nn.Module) else network_of(pipeline)
    whole = None if pipeline is network else pipeline
    if not 0 <= start < end <= 1:
        raise ConfigError(f"the control is on from {start} to {end} of the steps: take 0 <= start < end <= 1")
    if whole is None and (guess_mode or (start, end) != (0, 1)):
        raise ConfigError(
            "start, end and guess_mode need to know the steps and the guidance: attach to the pipeline"
        )
    if condition.ndim != 4 or condition.shape[1] != 3:
        raise ConfigError(
            f"the condition is {list(condition.shape)}: give pictures [K, 3, H, W], RGB in 0..1"
        )
    return PictureControl(network, whole, module, condition, scale, (start, end), guess_mode, block)


def network_of(pipeline: Any) -> nn.Module:
    """The UNet or the transformer of a pipeline; ConfigError where it has neither."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if network is None:
        raise ConfigError(f"{type(pipeline).__name__} has neither a unet nor a transformer to control")
    return network


def repeated(features: Tensor, count: int, halves: int) -> Tensor:
    """Features of K conditions for `count` samples: a prompt's pictures side by side, then the halves.

    ValueError where K conditions cannot be shared out among the samples.
    """
    conditions = len(features)
    each, rest = divmod(count, conditions * halves)
    if conditions == 1:
        return features.expand(count, *features.shape[1:])
    if rest:
        raise ValueError(f"{conditions} conditions for a batch of {count} in {halves} halves")
    return features.repeat_interleave(each, 0).repeat(halves, *[1] * (features.ndim - 1))

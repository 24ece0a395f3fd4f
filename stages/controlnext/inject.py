"""Control features enter an unmodified diffusers UNet through one forward hook.

ControlNeXt (arXiv:2408.06070), section 3.3: cross normalization gives the control the mean and the
deviation of the features that it joins, which replaces ControlNet's zero convolutions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSE_STRENGTH = 0.2
"""How strongly the published pose weights are injected; dense controls (depth, edges) want 1.0."""

EPSILON = 1e-5
"""Added to the control's standard deviation by the published SVD code."""


def cross_normalize(control: Tensor, hidden: Tensor, eps: float = EPSILON) -> Tensor:
    """`control` shifted and scaled, frame by frame, to the mean and standard deviation of `hidden`.

        control' = (control - mean_c) * std_h / (std_c + eps) + mean_h

    Statistics run over channels, height and width together, unbiased, in float32. `control` is
    [N, C, h, w] and `hidden` [N, C', h', w']; the result is float32 of `control`'s shape.
    """
    control = control.float()
    std_c, mean_c = torch.std_mean(control, dim=(1, 2, 3), keepdim=True)
    std_h, mean_h = torch.std_mean(hidden.float(), dim=(1, 2, 3), keepdim=True)
    return (control - mean_c) * (std_h / (std_c + eps)) + mean_h


def add_control(
    hidden: Tensor, control: Tensor, scale: float | Tensor = 1.0, strength: float = POSE_STRENGTH
) -> Tensor:
    """hidden + strength * scale * control', where control' is cross-normalized first and then pooled.

    `hidden` [N, C, h, w]; `control` [N, C, h', w']; `scale` a number or [N, 1, 1, 1]. The result has the
    shape and dtype of `hidden`.
    """
    height, width = hidden.shape[-2:]
    aligned = F.adaptive_avg_pool2d(cross_normalize(control, hidden), (height, width))
    return hidden + (aligned * (scale * strength)).to(hidden.dtype)


class Injection:
    """Adds control features to the hidden state that leaves the module `place` of a UNet.

    Made by `attach`. `add` joins (hidden state, features, scale). Outside `control(...)` the UNet behaves as
    without it.
    """

    def __init__(
        self, unet: nn.Module, place: str, add: Callable[[Tensor, Tensor, float | Tensor], Tensor]
    ) -> None:
        self._join = add
        self._control: Tensor | None = None
        self._scale: float | Tensor = 1.0
        self._hook = unet.get_submodule(place).register_forward_hook(self._add)

    @contextmanager
    def control(self, features: Tensor | None, scale: float | Tensor = 1.0) -> Iterator[None]:
        """While this is open, calls of the UNet receive `features` [N, C, h, w], or none if None.

        They join the last N of the batch's B * F frames. Under guidance, with the unconditional half first,
        the control therefore belongs to the conditional half and is not computed for the other, whose scale
        would be 0. `scale` is a number or [N, 1, 1, 1].
        """
        previous = self._control, self._scale
        self._control, self._scale = features, scale
        try:
            yield
        finally:
            self._control, self._scale = previous

    def _add(
        self, module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...] | None:
        if self._control is None:
            return None
        hidden, *rest = (output,) if isinstance(output, Tensor) else output
        free = len(hidden) - len(self._control)
        if free < 0:
            raise ValueError(
                f"control of {len(self._control)} frames for a UNet batch of {len(hidden)} frames"
            )
        controlled = self._join(hidden[free:], self._control, self._scale)
        controlled = torch.cat([hidden[:free], controlled]) if free else controlled
        return controlled if isinstance(output, Tensor) else (controlled, *rest)

    def detach(self) -> None:
        """Remove the hook; the UNet is as it was before `attach`."""
        self._hook.remove()

    def __enter__(self) -> "Injection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(unet: nn.Module, strength: float = POSE_STRENGTH) -> Injection:
    """Prepare an unmodified diffusers `UNetSpatioTemporalConditionModel` to receive ControlNeXt's features.

    They join the output of `down_blocks[0]`, and not the skip connections.

    with attach(unet) as injection, injection.control(features):
        prediction = unet(...)
    """
    return Injection(unet, "down_blocks.0", partial(add_control, strength=strength))

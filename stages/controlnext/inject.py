"""Control features enter an unmodified diffusers UNet through one forward hook.

ControlNeXt (arXiv:2408.06070), section 3.3: cross normalization gives the control the mean and the
deviation of the features that it joins, which replaces ControlNet's zero convolutions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    """Adds control features to the hidden state that leaves `unet.down_blocks[0]`; the skips stay unchanged.

    Made by `attach`. Outside `control(...)` the UNet behaves as without it.
    """

    def __init__(self, unet: nn.Module, strength: float = POSE_STRENGTH) -> None:
        self.strength = strength
        self._control: Tensor | None = None
        self._scale: float | Tensor = 1.0
        self._hook = unet.get_submodule("down_blocks.0").register_forward_hook(self._add)

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

    def _add(self, module: nn.Module, args: object, output: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._control is None:
            return None
        hidden, *rest = output
        free = len(hidden) - len(self._control)
        if free < 0:
            raise ValueError(
                f"control of {len(self._control)} frames for a UNet batch of {len(hidden)} frames"
            )
        controlled = add_control(hidden[free:], self._control, self._scale, self.strength)
        return (torch.cat([hidden[:free], controlled]) if free else controlled, *rest)

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
    """Prepare an unmodified diffusers `UNetSpatioTemporalConditionModel` to receive control.

    with attach(unet) as injection, injection.control(features):
        prediction = unet(...)
    """
    return Injection(unet, strength)

"""How ControlNeXt's features join a hidden state of the UNet.

ControlNeXt (arXiv:2408.06070), section 3.3: cross normalization gives the control the mean and the
deviation of the features that it joins, which replaces ControlNet's zero convolutions.
"""

import torch
from torch import Tensor
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
    hidden: Tensor,
    control: Tensor,
    scale: float | Tensor = 1.0,
    strength: float | Tensor = POSE_STRENGTH,
    eps: float = EPSILON,
    pool_first: bool = False,
) -> Tensor:
    """hidden + strength * scale * control', where control' is cross-normalized first and then pooled.

    With `pool_first` it is pooled first. `hidden` [N, C, h, w]; `control` [N, C, h', w']; `scale` a number or
    [N, 1, 1, 1]. The result has the shape and dtype of `hidden`.
    """
    height, width = hidden.shape[-2:]
    if pool_first:
        control = F.adaptive_avg_pool2d(control, (height, width))
    aligned = F.adaptive_avg_pool2d(cross_normalize(control, hidden, eps), (height, width))
    return hidden + (aligned * (scale * strength)).to(hidden.dtype)

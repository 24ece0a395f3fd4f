"""The feed-forward layers of a UNet, a part of their rows at a time: the same numbers in less memory.

GEGLU widens each row eightfold, which is the peak of a call of SVD's UNet: whole 9.3 GB beside the weights,
in four parts 6.1 GB (576x1024, 24 frames, both guidance halves, bfloat16, counted).
"""

from typing import Any

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from .patch import Forward, Lever


class ChunkedFeedForward(Lever):
    """Made by `chunk_feed_forward`; `parts` may be changed, `detach` gives the UNet back as it was."""

    def __init__(self, unet: nn.Module, parts: int) -> None:
        super().__init__()
        self.parts = parts
        for module in unet.modules():
            if isinstance(module, FeedForward):
                self.patch(module, self._in_parts)

    def _in_parts(self, forward: Forward) -> Forward:
        def chosen(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.parts == 1:
                return forward(hidden_states, *args, **kwargs)
            parts = hidden_states.chunk(self.parts)  # along frames, or pixels in temporal blocks
            return torch.cat([forward(part, *args, **kwargs) for part in parts])

        return chosen


def chunk_feed_forward(unet: nn.Module, parts: int) -> ChunkedFeedForward:
    """Run each feed-forward layer of a diffusers UNet in `parts` parts of its batch, until `detach`."""
    return ChunkedFeedForward(unet, parts)

"""The feed-forward layers of a UNet, a part of their rows at a time: the same numbers in less memory.

GEGLU widens each row eightfold, which is the peak of a call of SVD's UNet: whole 9.3 GB beside the weights,
in four parts 6.1 GB (576x1024, 24 frames, both guidance halves, bfloat16, counted).
"""

from typing import Any

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn


class ChunkedFeedForward:
    """Made by `chunk_feed_forward`; `parts` may be changed, `detach` gives the UNet back as it was."""

    def __init__(self, unet: nn.Module, parts: int) -> None:
        self.parts = parts
        self._changed = [module for module in unet.modules() if isinstance(module, FeedForward)]
        for module in self._changed:
            self._replace(module)

    def _replace(self, module: nn.Module) -> None:
        original = module.forward

        def chosen(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.parts == 1:
                return original(hidden_states, *args, **kwargs)
            parts = hidden_states.chunk(self.parts)  # along frames, or pixels in temporal blocks
            return torch.cat([original(part, *args, **kwargs) for part in parts])

        module.forward = chosen

    def detach(self) -> None:
        """Undo `chunk_feed_forward`."""
        for module in self._changed:
            del module.__dict__["forward"]
        self._changed.clear()


def chunk_feed_forward(unet: nn.Module, parts: int) -> ChunkedFeedForward:
    """Run each feed-forward layer of a diffusers UNet in `parts` parts of its batch, until `detach`."""
    return ChunkedFeedForward(unet, parts)

"""Cross-attention over one token, without attention.

The softmax over a single key is 1, so every query receives `to_out(to_v(token))`. All 32 cross-attention
layers of SVD look at one image token: their queries, keys and the norms before them need not be computed,
and what is left is one row for each video.
"""

from functools import partial
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from .patch import Forward, Lever

ROWS = 16
"""Copies of a token that are multiplied together: few enough to cost nothing, and enough for CPU libraries to
take the kernel that they take for the whole product, so that the bits are the same."""


class CollapsedAttention(Lever):
    """Made by `collapse`; `detach` gives the UNet back as it was, `enabled = False` pauses."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.enabled = True
        self._videos = 0
        self.on_detach(unet.register_forward_pre_hook(self._look, with_kwargs=True).remove)
        for block in unet.modules():
            attention, norm = getattr(block, "attn2", None), getattr(block, "norm2", None)
            if isinstance(attention, Attention) and isinstance(norm, nn.LayerNorm):
                self.patch(norm, partial(self._instead, norm, self._pass))
                self.patch(attention, partial(self._instead, attention, self._value))

    def _look(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs["sample"]
        token = args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]
        self._videos = len(sample) if self.enabled and token.shape[1] == 1 else 0

    def _instead(self, module: nn.Module, collapsed: Forward, forward: Forward) -> Forward:
        """A forward that is `collapsed` where the context is one token."""

        def chosen(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self._videos == 0:
                return forward(hidden_states, *args, **kwargs)
            return collapsed(module, hidden_states, *args, **kwargs)

        return chosen

    def _pass(self, norm: nn.Module, hidden_states: Tensor) -> Tensor:
        return hidden_states

    def _value(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **unused: Any
    ) -> Tensor:
        """[rows, 1, D], to be added to all queries; rows are frames or pixels, the same for each video."""
        repeats = len(hidden_states) // self._videos
        value = attention.to_v(encoder_hidden_states[::repeats].repeat_interleave(ROWS, dim=0))
        for layer in attention.to_out:
            value = layer(value)
        return value[::ROWS].repeat_interleave(repeats, dim=0)


def collapse(unet: nn.Module) -> CollapsedAttention:
    """Make the cross-attention of a diffusers UNet cheap where its context is one token, until `detach`.

    Weights and state dict stay as they are; a call with more tokens runs diffusers' own attention.
    """
    return CollapsedAttention(unet)

"""Deep features kept from step to step: approximate, off by default.

Ma et al., "DeepCache: Accelerating Diffusion Models for Free", 2023 (arXiv:2312.00858). What enters the last
layer of the UNet's last block changes slowly from step to step. A step that takes it from the step before
computes only `conv_in`, that last layer and the output. All that lies between is skipped, the place where the
control joins included.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from .patch import Forward, Lever


class DeepCache(Lever):
    """Made by `cache_deep_features`; `detach` gives the UNet back as it was.

    Features are kept for each `key` (half of a window), as many as fit into `keep_bytes`; the others are
    computed at every step.
    """

    def __init__(self, unet: nn.Module, keep_bytes: int) -> None:
        super().__init__()
        self.keep_bytes = keep_bytes
        self.kept_bytes = 0
        self._kept: dict[Hashable, Tensor] = {}
        self._key: Hashable | None = None
        self._reused: Tensor | None = None
        down = list(cast(Any, unet.down_blocks))
        *up, last = cast(Any, unet.up_blocks)
        for block in down:
            count = len(block.resnets) + (block.downsamplers is not None)
            self._replace(block, partial(_with_skips, count))
        for block in (cast(nn.Module, unet.mid_block), *up):
            self._replace(block, _unchanged)
        attentions = list(last.attentions) if getattr(last, "has_cross_attention", False) else []
        skipped = [*list(last.resnets)[:-1], *attentions[:-1]]
        entrance = skipped[-1]
        for module in skipped:
            self._replace(module, partial(self._skip, module in attentions, module is entrance))
        self.on_detach(entrance.register_forward_hook(self._keep).remove)
        self.on_detach(self.use_less_memory)

    def _replace(self, module: nn.Module, stand_in: Callable[[Tensor], Any]) -> None:
        """Let `stand_in`, given the hidden states, answer for `module` while features are reused."""

        def wrap(forward: Forward) -> Forward:
            def chosen(*args: Any, **kwargs: Any) -> Any:
                if self._reused is None:
                    return forward(*args, **kwargs)
                return stand_in(args[0] if args else kwargs["hidden_states"])

            return chosen

        self.patch(module, wrap)

    def _skip(self, gives_tuple: bool, is_entrance: bool, hidden: Tensor) -> Any:
        result = self._reused if is_entrance else hidden
        return (result,) if gives_tuple else result

    def _keep(self, module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
        if self._key is None or self._reused is not None:
            return
        features = output if isinstance(output, Tensor) else output[0]
        before = self._kept.pop(self._key, None)
        self.kept_bytes -= 0 if before is None else before.nbytes
        if self.kept_bytes + features.nbytes <= self.keep_bytes:
            self._kept[self._key] = features.detach()
            self.kept_bytes += features.nbytes

    def has(self, key: Hashable) -> bool:
        """Whether features of `key` are kept."""
        return key in self._kept

    @contextmanager
    def fill(self, key: Hashable) -> Iterator[None]:
        """While this is open, a call of the UNet is computed in full and its deep features are kept."""
        self._key = key
        try:
            yield
        finally:
            self._key = None

    @contextmanager
    def reuse(self, key: Hashable) -> Iterator[None]:
        """While this is open, a call of the UNet reuses what is kept of `key`, whose batch had its size."""
        self._reused = self._kept[key]
        try:
            yield
        finally:
            self._reused = None

    def use_less_memory(self) -> None:
        """Keep nothing from now on: every step is computed in full."""
        self._kept.clear()
        self.keep_bytes = self.kept_bytes = 0


def _unchanged(hidden: Tensor) -> Tensor:
    return hidden


def _with_skips(count: int, hidden: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What a block of the encoder returns, with `count` skip connections that nobody looks at."""
    return hidden, (hidden,) * count


def cache_deep_features(unet: nn.Module, keep_bytes: int) -> DeepCache:
    """Prepare an unmodified diffusers `UNetSpatioTemporalConditionModel` to reuse deep features.

    cache = cache_deep_features(unet, keep_bytes)
    with cache.fill(window):
        unet(...)               # in full
    with cache.reuse(window):   # if cache.has(window)
        unet(...)               # shallow
    """
    return DeepCache(unet, keep_bytes)

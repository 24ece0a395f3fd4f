"""Control modules: networks that turn control frames into features, and how these enter another network.

ControlNeXt, MimicMotion's PoseNet and ControlNet keep one protocol, so samplers, the memory plan and training
serve them all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

FrameFeatures = tuple[Tensor, ...]
"""What a control module knows of N control frames before it looks at the noise level: tensors [N, ...]."""


def feature_bytes(features: FrameFeatures) -> int:
    """Bytes of the features of all frames."""
    return sum(part.nbytes for part in features)


def frame_features(features: FrameFeatures, index: int) -> FrameFeatures:
    """The features of one frame, in memory of their own."""
    return tuple(part[index : index + 1].clone() for part in features)


def join_features(frames: Sequence[FrameFeatures]) -> FrameFeatures:
    """The features of several sets of frames, one after the other."""
    return frames[0] if len(frames) == 1 else tuple(map(torch.cat, zip(*frames, strict=True)))


@runtime_checkable
class ControlModule(Protocol):
    """A network that turns control frames into control features, each frame on its own.

    A call is `apply_time(encode_frames(frames), embed_time(timestep))`. The three are apart because a sampler
    keeps what does not depend on the noise level for all its steps. (diffusers asks at run time whether a
    pipeline's component is one.)
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, control_frames: Tensor, timestep: Tensor | float, chunk: int | None = None) -> Tensor:
        """Control features [B * F, C, h, w] of control frames [B, F, 3, H, W], RGB in 0..1.

        `timestep` is 0.25 ln sigma, one for all or one for each video [B]. `chunk` frames are run at a time,
        all at once if None.
        """
        ...

    def encode_frames(self, frames: Tensor) -> FrameFeatures:
        """The part that does not depend on the noise level, of frames [N, 3, H, W] in 0..1."""
        ...

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        """Time embedding [batch, D] of `timestep`; D is 0 where nothing depends on it."""
        ...

    def apply_time(self, features: FrameFeatures, embedding: Tensor) -> Tensor:
        """Features of N frames and time embeddings [N or 1, D] -> control features [N, C, h, w]."""
        ...

    def attach(self, unet: nn.Module, strength: float) -> "Injection":
        """Prepare an unmodified diffusers UNet to receive the control features, until `Injection.detach`.

        `strength` scales what joins the UNet, for modules that leave it open.
        """
        ...


Join = Callable[[Tensor, Tensor, float | Tensor], Tensor]
"""(hidden state [N, C, h, w], control features [N, C', h', w'], scale) -> the new hidden state."""


class Injection:
    """Control features that join the calls of a network by forward hooks.

    Made by `ControlModule.attach`; a subclass registers its `hooks`, which read `features` and `scale`.
    Outside `control(...)`, and after `detach()`, the network behaves as without it.

    with module.attach(unet, strength) as injection, injection.control(features):
        prediction = unet(...)
    """

    def __init__(self) -> None:
        self.features: Tensor | None = None
        self.scale: float | Tensor = 1.0
        self.hooks: list[RemovableHandle] = []

    @contextmanager
    def control(self, features: Tensor | None, scale: float | Tensor = 1.0) -> Iterator[None]:
        """While this is open, calls of the network receive `features` [N, C, h, w], or none if None.

        They join the last N of the batch's B * F frames. Under guidance, with the unconditional half first,
        the control therefore belongs to the conditional half and is not computed for the other, whose scale
        would be 0. `scale` is a number or [N, 1, 1, 1].
        """
        previous = self.features, self.scale
        self.features, self.scale = features, scale
        try:
            yield
        finally:
            self.features, self.scale = previous

    def detach(self) -> None:
        """Remove the hooks; the network is as it was before."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def joined(self, hidden: Tensor, join: Join) -> Tensor:
        """`hidden` [B, ...] with the features joined to its last N entries; as it is without any."""
        if self.features is None:
            return hidden
        free = len(hidden) - len(self.features)
        if free < 0:
            raise ValueError(
                f"control of {len(self.features)} frames for a UNet batch of {len(hidden)} frames"
            )
        controlled = join(hidden[free:], self.features, self.scale)
        return torch.cat([hidden[:free], controlled]) if free else controlled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


class OutputInjection(Injection):
    """Control features that join the hidden state that leaves one module of the network, by `join`.

    `place` is where the hidden state stands in the module's output, if that is a tuple.
    """

    def __init__(self, module: nn.Module, join: Join, place: int = 0) -> None:
        super().__init__()
        self._join, self._place = join, place
        self.hooks.append(module.register_forward_hook(self._add))

    def _add(
        self, module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...] | None:
        if self.features is None:
            return None
        if isinstance(output, Tensor):
            return self.joined(output, self._join)
        parts = list(output)
        parts[self._place] = self.joined(parts[self._place], self._join)
        return tuple(parts)


class InputInjection(Injection):
    """Control features that join the hidden state that enters one module of the network, by `join`.

    The module is called with the hidden state as its first argument or under the name `hidden_states`.
    """

    def __init__(self, module: nn.Module, join: Join) -> None:
        super().__init__()
        self._join = join
        self.hooks.append(module.register_forward_pre_hook(self._add, with_kwargs=True))

    def _add(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.joined(args[0], self._join), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self.joined(kwargs["hidden_states"], self._join)}

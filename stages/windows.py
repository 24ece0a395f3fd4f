"""Windows: how a long video is cut for a network that takes a few frames, and blended from its predictions.

Pure geometry. Frames are counted in the generated sequence: frame 0 is the reference image in its own pose,
frames 1, 2, ... are the dancer's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """Frames that one call of the network denoises together. The three tuples run over the window's slots.

    `frames`: which frame's latents sit in the slot, each at most once; `control`: whose control frame it
    gets; `weights`: what part of the frame's blended prediction comes from here. Over all windows of a plan
    the weights of each frame sum to one.
    """

    frames: tuple[int, ...]
    control: tuple[int, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.frames)


Plan = tuple[Window, ...]


def even(num_frames: int, size: int, overlap: int) -> Plan:
    """Ours: windows of equal size, evenly spread, each anchored on the reference.

    Slot 0 of every window is frame 0, as in training, so a window of `size` carries `size - 1` frames of the
    dance. Frame 0 itself is predicted by the first window alone, so that no window waits for all others.
    Neighbours share at least `overlap` of the dancer's frames and fade linearly into each other over all that
    they share. The plan has the fewest windows that allow it, and one shorter window if the video fits in it.
    """
    _check(num_frames, size, overlap)
    body, dance = size - 1, num_frames - 1
    if overlap >= body:
        raise ConfigError(
            f"window overlap {overlap} leaves no step: a window of {size} carries {body} frames beside the "
            f"reference, so use an overlap of at most {body - 1} or a larger window"
        )
    if dance <= body:
        return (_window(range(num_frames), [1.0] * num_frames),)
    return tuple(
        _window((0, *range(1 + start, 1 + start + body)), (float(start == 0), *weights))
        for start, weights in faded(dance, body, overlap)
    )


def faded(length: int, size: int, overlap: int) -> list[tuple[int, list[float]]]:
    """Cut `length` places into parts of `size`, evenly spread, neighbours sharing at least `overlap`.

    Returns (start, weights of the part's places). Weights ramp over what neighbours share and sum to one at
    each place. Needs 0 <= overlap < size; one part of `length` where that fits.
    """
    size = min(size, length)
    steps = -((length - size) // -(size - overlap)) if length > size else 0  # rounded up
    starts = [i * (length - size) // steps if steps else 0 for i in range(steps + 1)]
    shared = [before + size - after for before, after in pairwise(starts)]
    parts = [
        (start, _ramps(size, rise, fall))
        for start, rise, fall in zip(starts, [0, *shared], [*shared, 0], strict=True)
    ]
    totals = [0.0] * length
    for start, weights in parts:
        for i, weight in enumerate(weights):
            totals[start + i] += weight
    return [
        (start, [weight / total for weight, total in zip(weights, totals[start:], strict=False)])
        for start, weights in parts
    ]


def published(num_frames: int, size: int, overlap: int) -> Plan:
    """What the published ControlNeXt-SVD-v2 script does.

    Starts at 0, size - overlap, 2 (size - overlap), ...; a window past the end is moved back to it, so the
    last two may share nearly everything. Slot 0 of each window keeps its own frame's latents but gets control
    frame 0, and its prediction is thrown away except in the first window. The others count alike, so the
    true overlap is one less than asked; overlap 0 leaves frames without any prediction and is refused (the
    published code divides 0 by 0).
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return (_window(range(num_frames), [1.0] * num_frames),)
    if overlap == 0:
        raise ConfigError(
            "window overlap 0 leaves frames uncovered in the plan 'published', which drops the first frame "
            "of each later window: use an overlap of at least 1, or the plan 'even'"
        )
    starts = [min(start, num_frames - size) for start in range(0, num_frames - overlap, size - overlap)]
    counts = [0] * num_frames
    for start in starts:
        for frame in range(start + (start > 0), start + size):
            counts[frame] += 1
    windows = []
    for start in starts:
        weights = [1 / counts[frame] for frame in range(start, start + size)]
        if start > 0:
            weights[0] = 0.0
        frames = tuple(range(start, start + size))
        windows.append(Window(frames, (0, *frames[1:]), tuple(weights)))
    return tuple(windows)


def mimicmotion(num_frames: int, size: int, overlap: int) -> Plan:
    """What the published MimicMotion pipeline does.

    Slot 0 of every window is frame 0. The others of the windows start at 1, 1 + size - overlap, ...; where
    the last frames are left over, one more window ends with them. Slot j of F counts as a triangle does,
    min(w, 2 - w) with w = 2 (j + 1/2) / F, before the weights of each frame are made to sum to one. The true
    overlap is one less than asked; overlap 0 leaves frames without any prediction and is refused.
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return (_window(range(num_frames), [1.0] * num_frames),)
    if overlap == 0:
        raise ConfigError(
            "window overlap 0 leaves frames uncovered in the plan 'mimicmotion', whose windows share the "
            "reference: use an overlap of at least 1, or the plan 'even'"
        )
    starts = list(range(0, num_frames - size + 1, size - overlap))
    if starts[-1] < num_frames - size:
        starts.append(num_frames - size)
    triangle = [min(2 * j + 1, 2 * (size - j) - 1) / size for j in range(size)]
    frames = [(0, *range(start + 1, start + size)) for start in starts]
    totals = [0.0] * num_frames
    for places in frames:
        for frame, weight in zip(places, triangle, strict=True):
            totals[frame] += weight
    return tuple(
        _window(places, [weight / totals[frame] for frame, weight in zip(places, triangle, strict=True)])
        for places in frames
    )


PLANS: dict[str, Callable[[int, int, int], Plan]] = {
    "even": even,
    "published": published,
    "mimicmotion": mimicmotion,
}
"""Window plans by name: (number of frames, window size, overlap) -> windows in the order of their frames.

The published ones are recipes: a generator that is given one also draws its noise and decodes as the
published code does (`generate.WindowPlan`).
"""


def plan(method: str, num_frames: int, size: int, overlap: int) -> Plan:
    """The plan named `method`; ConfigError for an unknown name or numbers that it cannot serve."""
    if method not in PLANS:
        raise ConfigError(f"unknown window plan {method!r}: use one of {', '.join(PLANS)}")
    return PLANS[method](num_frames, size, overlap)


def blend(windows: Sequence[Window], predictions: "Iterable[Tensor]", num_frames: int) -> "Tensor":
    """Weighted sum of all windows' predictions [F, ...] -> float32 [num_frames, ...] on the CPU."""
    import torch

    total: Tensor | None = None
    for frames, values in blended(windows, predictions):
        if total is None:
            total = torch.zeros(num_frames, *values.shape[1:])
        total[frames] = values
    if total is None:
        raise ValueError("no windows to blend")
    return total


def blended(
    windows: Sequence[Window], predictions: "Iterable[Tensor]"
) -> "Iterator[tuple[list[int], Tensor]]":
    """What `blend` gives, piece by piece: `Blending` of predictions that come one at a time."""
    blending = Blending(windows)
    for _, prediction in zip(windows, predictions, strict=True):
        frames, values = blending.add(prediction)
        if frames:
            yield frames, values


class Blending:
    """Blends predictions [F, ...] of `windows`, added in their order.

    A frame is done after the last window in which it has a weight.

    The sum is taken in this order, whoever computed the predictions, so its bits do not depend on who did. No
    more than two neighbouring windows are held. `next` is the window whose prediction is to come.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.next = 0
        self._windows = windows
        self._last = {
            frame: index
            for index, window in enumerate(windows)
            for frame, weight in zip(window.frames, window.weights, strict=True)
            if weight
        }
        self._sums: dict[int, Tensor] = {}

    def add(self, prediction: "Tensor") -> "tuple[list[int], Tensor]":
        """Add the next prediction: the frames that are done, and float32 [their number, ...] on the CPU."""
        import torch

        window, prediction = self._windows[self.next], prediction.to("cpu", torch.float32)
        for frame, weight, value in zip(window.frames, window.weights, prediction, strict=True):
            if weight:
                self._sums[frame] = self._sums.get(frame, 0) + value * weight
        done = [frame for frame in window.frames if self._last[frame] == self.next]
        self.next += 1
        return done, torch.stack([self._sums.pop(frame) for frame in done]) if done else prediction[:0]


def _window(frames: Iterable[int], weights: Iterable[float]) -> Window:
    frames = tuple(frames)
    return Window(frames, frames, tuple(weights))


def _ramps(length: int, rise: int, fall: int) -> list[float]:
    """Weights that rise over the first `rise` places, fall over the last `fall`, and are never 0."""
    return [min(1.0, (i + 1) / (rise + 1), (length - i) / (fall + 1)) for i in range(length)]


def _check(num_frames: int, size: int, overlap: int) -> None:
    if num_frames < 1:
        raise ConfigError(f"cannot plan windows over {num_frames} frames: at least 1 is needed")
    if size < 2:
        raise ConfigError(f"window size {size} is too small: use at least 2")
    if overlap < 0:
        raise ConfigError(f"window overlap {overlap} is negative: use 0 or more")
    if overlap >= size:
        raise ConfigError(
            f"window overlap {overlap} is not smaller than window size {size}: lower the overlap"
        )

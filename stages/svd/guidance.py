"""Classifier-free guidance (Ho and Salimans, arXiv:2207.12598): how strong it is, where, and its formula."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..generate import Settings


def guide(uncond: Tensor, cond: Tensor, guidance: Tensor) -> Tensor:
    """v_u + guidance (v_c - v_u): v [..., F, 4, h, w], guidance [F]."""
    return uncond + guidance.reshape(-1, 1, 1, 1) * (cond - uncond)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly the windows of one video are guided, from its first to its last step."""

    first: float
    last: float
    """Guidance scale of a window's first and last slot; it rises evenly between them."""
    steps: int
    interval: tuple[float, float] = (0.0, 1.0)
    """The part of the steps, from 0 to 1, that is guided."""

    def scale(self, step: int, num_slots: int) -> Tensor | None:
        """Guidance scale [num_slots] of each slot of a window at `step`; None where guidance changes nothing.

        As published, guidance is off when the last scale is below 1. It is also not computed at 1 throughout,
        where the guided prediction is the conditional one, nor outside the interval.
        """
        low, high = self.interval
        if self.last < 1 or self.first == self.last == 1 or not low <= step / self.steps < high:
            return None
        return torch.linspace(self.first, self.last, num_slots)


def guidance_of(settings: Settings) -> Guidance:
    """The guidance that `settings` ask for."""
    last, first = settings.guidance_scale, settings.min_guidance_scale
    return Guidance(last if first is None else first, last, settings.steps, settings.guidance_interval)

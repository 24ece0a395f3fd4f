"""Pixels as networks take and give them, from uint8 and back."""

import numpy as np
import torch
from torch import Tensor


def to_signed(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in -1..1, what a VAE takes.

    Adding an axis before or after is the same to the eye, not to the last bit: convolutions choose their
    kernels by the strides.
    """
    return torch.from_numpy(np.moveaxis(frames, -1, -3).astype(np.float32) / 127.5 - 1)


def to_unit(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in 0..1, what a control module takes."""
    return torch.from_numpy(np.moveaxis(frames, -1, -3).astype(np.float32) / 255)


def to_uint8(frame: Tensor) -> np.ndarray:
    """[3, H, W] around -1..1 -> uint8 [H, W, 3], clipped and rounded."""
    return to_integers(frame, 8)


def to_integers(frame: Tensor, bit_depth: int) -> np.ndarray:
    """[3, H, W] around -1..1 -> [H, W, 3] in 0..2^bit_depth - 1, clipped and rounded; uint8 or uint16."""
    scaled = (frame / 2 + 0.5).clamp(0, 1) * (2**bit_depth - 1)
    kind = torch.uint8 if bit_depth == 8 else torch.uint16
    return scaled.round().to(kind).permute(1, 2, 0).contiguous().numpy()

"""A device that runs out of memory gets one second chance, with smaller pieces."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from ...errors import DeviceMemoryError

ResultT = TypeVar("ResultT")

logger = logging.getLogger(__name__)

ALLOCATION_FAILURES = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: out of memory",
    "DefaultCPUAllocator",
)
"""What torch's plain RuntimeErrors say where a library of the device, or the CPU, has no memory left."""
WHAT_TO_DO = "lower --window.size or --width and --height"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device has too little memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ALLOCATION_FAILURES)


def in_smaller_pieces(
    run: Callable[[], ResultT], use_less_memory: Callable[[], object], what: str
) -> ResultT:
    """run(); if the device has too little memory, use_less_memory() and run() once more.

    `what` names the work. DeviceMemoryError, in one line that says what to change, if that fails too.
    """
    try:
        return run()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # what the call held is freed with its traceback, here
    logger.warning("out of memory for %s: trying once more, and going on, in smaller pieces", what)
    use_less_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with explain_out_of_memory(f"{what}, also in smaller pieces"):
        return run()


@contextmanager
def explain_out_of_memory(what: str) -> Iterator[None]:
    """Running out of memory where there are no smaller pieces becomes the error that says what to change."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(what) from error


def out_of_memory(what: str) -> DeviceMemoryError:
    """The error that says what to change."""
    return DeviceMemoryError(
        f"out of memory for {what}: {WHAT_TO_DO}, or free the device; "
        "a --memory-limit (GiB) below what is free makes the plan smaller from the start"
    )

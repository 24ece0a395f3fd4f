"""A device that runs out of memory gets one second chance, with smaller pieces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from ...errors import DeviceMemoryError

ResultT = TypeVar("ResultT")

WHAT_TO_DO = "lower --window.size or --width and --height"


def silent(line: str) -> None:
    """Say nothing."""


def in_smaller_pieces(
    run: Callable[[], ResultT], spare: Callable[[], object], what: str, say: Callable[[str], None] = silent
) -> ResultT:
    """run(); if the device has too little memory, spare() and run() once more.

    `what` names the work. DeviceMemoryError, in one line that says what to change, if that fails too.
    """
    try:
        return run()
    except torch.OutOfMemoryError:
        pass  # what the call held is freed with its traceback, here
    say(f"out of memory for {what}: trying once more, and going on, in smaller pieces")
    spare()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        return run()
    except torch.OutOfMemoryError as error:
        raise out_of_memory(f"{what}, also in smaller pieces") from error


@contextmanager
def told_what_to_do(what: str) -> Iterator[None]:
    """Running out of memory where there are no smaller pieces becomes the error that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(what) from error


def out_of_memory(what: str) -> DeviceMemoryError:
    """The error that says what to change."""
    return DeviceMemoryError(
        f"out of memory for {what}: {WHAT_TO_DO}, or free the device; "
        "a --memory-limit (GiB) below what is free makes the plan smaller from the start"
    )

"""One way to change what the modules of a network compute, and to give them back.

Changes are stacked: each wraps the forward that it finds. Whoever made one takes off that one, in any order;
the others stay, on what is then below them. With the last one a module is as it was before, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from torch import nn

Forward = Callable[..., Any]
"""What answers a call of a module."""
Wrap = Callable[[Forward], Forward]
"""Makes a new forward of the one below it; called again when a change below is taken off."""

STACK = "_patches"
"""Attribute of a changed module that holds its changes, the lowest first."""


@dataclass(eq=False, slots=True)
class Patch:
    """One change of one module: `forward` wraps `below`, which answered before. Made by `patch`."""

    module: nn.Module
    wrap: Wrap
    below: Forward
    forward: Forward
    is_first: bool
    """Whether `below` is the forward of the module's class, and no attribute of its own."""

    def undo(self) -> None:
        """Take this change off, wherever in the stack it is; once more does nothing."""
        stack: list[Patch] = vars(self.module).get(STACK, [])
        if self not in stack:
            return
        place = stack.index(self)
        above = stack[place + 1 :]
        stack.remove(self)
        below, is_first = self.below, self.is_first
        for change in above:
            change.below, change.forward, change.is_first = below, change.wrap(below), is_first
            below, is_first = change.forward, False
        if is_first:
            del vars(self.module)["forward"]
        else:
            self.module.forward = below
        if not stack:
            delattr(self.module, STACK)


def patch(module: nn.Module, wrap: Wrap) -> Patch:
    """Let `wrap(forward)` answer calls of `module`, `forward` being what answers now, until `Patch.undo`."""
    own = vars(module)
    below: Forward = module.forward
    change = Patch(module, wrap, below, wrap(below), is_first="forward" not in own)
    own.setdefault(STACK, []).append(change)
    module.forward = change.forward
    return change


@dataclass
class Lever:
    """Changes of a network that come off together: by `detach`, or at the end of a `with`.

    What makes a lever adds its changes by `patch`, and by `on_detach` how to take off what is none: hooks.
    """

    _undo: list[Callable[[], object]] = field(default_factory=list, init=False, repr=False)

    def patch(self, module: nn.Module, wrap: Wrap) -> None:
        """Change a module until `detach`."""
        self._undo.append(patch(module, wrap).undo)

    def on_detach(self, undo: Callable[[], object]) -> None:
        """Call `undo` at `detach`."""
        self._undo.append(undo)

    def detach(self) -> None:
        """Give the network back as it would be without this lever; once more does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

"""The Stage protocol: what an executor needs to know of a piece of work."""

from typing import Protocol, TypeVar

from .types import Resources

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Stage(Protocol[In, Out]):
    """Made in the driver (cheap, picklable), set up once in each worker, called once for each item."""

    resources: Resources

    def setup(self) -> None:
        """Load weights and open devices."""

    def __call__(self, item: In, /) -> Out: ...

    def close(self) -> None:
        """Release what `setup` took."""

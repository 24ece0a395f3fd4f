"""How torch's allocator hands out a GPU's memory: what of it lies in pieces that nothing fits into.

A model of c10/cuda/CUDACachingAllocator.cpp with its defaults, for (tensor, bytes) as `PretendedGpu.events`
has them: sizes are rounded to 512 bytes; up to 1 MiB they come from segments of 2 MiB, up to 10 MiB from
segments of 20 MiB, above that from their own, rounded to 2 MiB; the smallest free piece that is large enough
is taken, and cut where more is left over than 512 bytes (1 MiB in large segments). Where the device has no
more, segments without any tensor are given back first.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment."""

    size: int
    pool: list
    before: "Block | None" = None
    after: "Block | None" = None
    free: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.size, id(self)


class Allocator:
    """Memory of a device of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = self.peak = 0
        self._small: list = []
        self._large: list = []
        """Free pieces, [((bytes, id), piece)], sorted."""

    def take(self, size: int) -> Block | None:
        """A piece of at least `size` bytes; None where there is none."""
        size = max(512, -(-size // 512) * 512)
        pool = self._small if size <= MIB else self._large
        place = bisect_left(pool, (size, 0), key=lambda entry: entry[0])
        if place == len(pool):
            if not self._reserve(size, pool):
                return None
            place = bisect_left(pool, (size, 0), key=lambda entry: entry[0])
        block = pool.pop(place)[1]
        block.free = False
        rest = block.size - size
        if rest >= 512 if pool is self._small else rest > MIB:
            block.size = size
            left = Block(rest, pool, block, block.after)
            if block.after is not None:
                block.after.before = left
            block.after = left
            self._put(left)
        return block

    def give(self, block: Block) -> None:
        """Take a piece back, and join it with free neighbours."""
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._remove(other)
                block.size += other.size
                if other is block.before:
                    block.before = other.before
                else:
                    block.after = other.after
        if block.before is not None:
            block.before.after = block
        if block.after is not None:
            block.after.before = block
        self._put(block)

    def _reserve(self, size: int, pool: list) -> bool:
        segment = 2 * MIB if size <= MIB else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        if self.reserved + segment > self.limit:
            for kept in (self._small, self._large):
                for _, block in [entry for entry in kept if entry[1].before is entry[1].after is None]:
                    self._remove(block)
                    self.reserved -= block.size
        if self.reserved + segment > self.limit:
            return False
        self.reserved += segment
        self.peak = max(self.peak, self.reserved)
        self._put(Block(segment, pool))
        return True

    def _put(self, block: Block) -> None:
        block.free = True
        insort(block.pool, (block.key, block), key=lambda entry: entry[0])

    def _remove(self, block: Block) -> None:
        block.free = False
        del block.pool[bisect_left(block.pool, block.key, key=lambda entry: entry[0])]


def fits(events: Iterable[tuple[int, int]], limit: int) -> bool:
    """Whether tensors that come and go so find room on a device of `limit` bytes."""
    allocator, blocks = Allocator(limit), {}
    for number, size in events:
        if not size:
            allocator.give(blocks.pop(number))
        elif (block := allocator.take(size)) is None:
            return False
        else:
            blocks[number] = block
    return True


def least(events: list[tuple[int, int]], low: int, high: int, step: int = 16 * MIB) -> int:
    """The smallest limit between two in which they find room, to `step` bytes; `high` is taken to do."""
    while high - low > step:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(events, middle) else (middle, high)
    return high

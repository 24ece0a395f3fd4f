"""What a data set says of a sample that cannot be used: it is counted and reported, and never replaced."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadRecord:
    """`name` says which sample, `reason` in one line why it cannot be used."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"

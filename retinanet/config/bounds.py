"""Bounds in the type annotation of a config key: `Annotated[float, Between(0, 1)]`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """The lowest and the highest value of a number, or of each number of a list."""

    low: float
    high: float

    def admits(self, value: Any) -> bool:
        return all(self.low <= number <= self.high for number in (value if isinstance(value, tuple) else (value,)))

    def __str__(self) -> str:
        return f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Count:
    """The number of values of a list. meaning: what they stand for."""

    number: int
    meaning: str

    def admits(self, value: tuple) -> bool:
        return len(value) == self.number

    def __str__(self) -> str:
        return f"{self.number} values, {self.meaning}"


@dataclass(frozen=True)
class NotEmpty:
    """A list has at least one value."""

    def admits(self, value: tuple) -> bool:
        return bool(value)

    def __str__(self) -> str:
        return "at least one value"

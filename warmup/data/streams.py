"""Training examples that are read as they are needed, and never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from warmup.data.examples import Example
from warmup.errors import UserError


@dataclass(frozen=True)
class ExampleStream:
    """The examples of a split, in its order.

    Attributes:
        name: what messages call it.
        opened: reads it from its beginning.
        digest: tells its content.
    """

    name: str
    opened: Callable[[], Iterator[Example]]
    digest: str

    def endless(self) -> Iterator[Example]:
        """Its examples, from the first again behind the last.

        Raises:
            UserError: there is none; and what reading raises.
        """
        while True:
            empty = True
            for example in self.opened():
                empty = False
                yield example
            if empty:
                raise UserError(f"the train split is empty: {self.name} has no examples")

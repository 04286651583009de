"""Models of transformers, which imports what this program seldom or never uses: two seconds of every start."""

from collections.abc import Iterator
from contextlib import contextmanager

import transformers.utils


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """What is imported inside believes that these are not installed."""
    kept = {name: getattr(transformers.utils, name) for name in (f"is_{package}_available" for package in packages)}
    for name in kept:
        setattr(transformers.utils, name, lambda: False)
    try:
        yield
    finally:
        for name, asked in kept.items():
            setattr(transformers.utils, name, asked)


with _without("sklearn", "scipy"):  # for GLUE's scores and assisted generation; for losses of object detection
    import transformers.data.metrics
    import transformers.generation.utils
    import transformers.modeling_utils
    import transformers.models.auto.auto_factory  # which asks for PEFT where a folder holds adapters
with _without("datasets", "peft"):  # the Trainer's own handling of them; it gets neither of their classes here
    import transformers.trainer  # noqa: F401

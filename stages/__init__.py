"""What is done: pure functions and small classes that know no Ray, no CLI and no YAML.

The names that users need are those of `api.py`; docs/python.md shows them at work.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import the names of `api.py` when one is asked for: the package itself stays light."""
    from importlib import import_module

    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".api", __name__), name)

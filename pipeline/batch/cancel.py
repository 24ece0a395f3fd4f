"""`cancel`: one video of a batch that is not wanted any more, the others go on."""

from pathlib import Path

from ...stages.errors import ConfigError
from .stages import AGAIN, cancel_mark
from .status import RUNNING, is_running, states_of


def cancel(root: Path, name: str) -> str:
    """Give up one video of the batch in `root`, running or not; returns a line for the user.

    What is made of it ends at its next checkpoint, or with the step that runs, and stays. Raises ConfigError
    for a video that is not of the batch, or is done.
    """
    states = {state.name: state for state in states_of(root)}
    if name not in states:
        raise ConfigError(f"{root} has no video {name}: `run.py status` and index.html name them")
    if states[name].status == "done":
        raise ConfigError(f"{name} is done: there is nothing to cancel")
    mark = cancel_mark(root, name)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    return f"{name} is cancelled, the batch is {RUNNING[is_running(root)]}: {AGAIN}"

"""What is said where a model of drawn dancers is to animate a photograph."""

from ...stages.media.photograph import is_photograph
from ...stages.media.picture import read_picture
from ..config import AnimateConfig
from ..job.inputs import with_local_inputs


def about_photographs(config: AnimateConfig) -> str:
    """What a user should know who asks a model of drawn dancers to animate a photograph; empty for others."""
    if config.model != "demo" or config.reference is None:
        return ""
    local = with_local_inputs(config, ("reference",)).reference
    return "" if local is None else note_on(config, is_photograph(read_picture(local)))


def note_on(config: AnimateConfig, photograph: bool) -> str:
    """The same, of a picture of which it is known whether it is a photograph."""
    if config.model != "demo" or not photograph:
        return ""
    return (
        f"{config.reference} is no drawn dancer, and the demo model knows no others: expect a smear. "
        "`--model cutout` lets the character itself dance, cut out like a figure of paper"
    )

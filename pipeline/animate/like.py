"""What another job takes of the settings that a result carries."""

from ..config import AnimateConfig
from .refuse import OF_A_NETWORK, OF_A_VIDEO
from .settings import is_cutout


def fitting(settings: AnimateConfig, asked: AnimateConfig) -> AnimateConfig:
    """The settings of a result, without those that mean nothing to what is asked for: nobody typed them."""
    idle = {*(OF_A_VIDEO if asked.pose is not None else ()), *(OF_A_NETWORK if is_cutout(asked) else ())}
    return AnimateConfig.model_validate(settings.model_dump(include=settings.model_fields_set - idle))

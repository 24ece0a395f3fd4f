"""The README of a trained model folder: what it is, what it learned from, for how long."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from .log import LOG, read_log

CARD = """# posedance {name}

ControlNeXt on a Stable Video Diffusion network, trained by posedance: `run.py animate --model FOLDER`.

- Networks: unmodified `UNetSpatioTemporalConditionModel`, `AutoencoderKLTemporalDecoder`,
  `CLIPVisionModelWithProjection` (diffusers, transformers) and posedance's `ControlNeXt`, float16.
  The group counts of their norms are in `posedance.json`; without them the weights mean something else.
- Data: {data}.
- Licence: {licence}.

| network | parameters |
|---|---|
{rows}

## Training

{notes}
"""


def model_card(name: str, sizes: Mapping[str, int], data: str, licence: str, notes: str) -> str:
    """The text. `sizes` are parameter counts, `notes` a paragraph about the training."""
    rows = "\n".join(f"| {network} | {count:,} |" for network, count in sizes.items())
    return CARD.format(name=name, rows=rows, data=data, licence=licence, notes=notes)


def licence_of(sources: Iterable[Path | None]) -> str:
    """What a model's licence follows from: the folders that its training started from, None for none."""
    named = (path.name if path.is_absolute() else str(path) for path in sources if path is not None)
    given = dict.fromkeys(f"`{name}`" for name in named)
    return f"that of what the training started from, {', '.join(given)}, and of the data"


def training_notes(folder: Path) -> str:
    """Steps and losses of a run, from its `log.jsonl`."""
    entries = read_log(folder)
    losses = [entry for entry in entries if "loss_mean" in entry]
    if not losses:
        return f"{folder.name}/{LOG} says nothing of its losses."
    checked = [entry for entry in entries if any(key.startswith("validation") for key in entry)]
    first, last = losses[0], losses[-1]
    text = (
        f"{last['step']} steps; running mean of the loss {first['loss_mean']:.3f} -> {last['loss_mean']:.3f}."
    )
    if checked:
        figures = {key: value for key, value in checked[-1].items() if key != "step"}
        text += " At the end: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()) + "."
    return text

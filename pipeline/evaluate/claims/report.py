"""The figures of `evaluate claims` as a table and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "controlnext": "ControlNeXt",
    "controlnet": "ControlNet",
    "controlnext_without_cross_normalization": "ControlNeXt, no normalization",
    "controlnext_zero_convolution": "ControlNeXt, zero convolution instead",
}


def table(figures: Mapping[str, Any]) -> str:
    """Markdown: a row for each figure, a column for each way of control."""
    methods = figures["methods"]
    steps = list(next(iter(methods.values()))["at_step"])

    def row(title: str, cells: list[str]) -> str:
        return f"| {title} | " + " | ".join(cells) + " |"

    def at(step: str, key: str, form: str = ".2f") -> str:
        cells = [format(m["at_step"][step][key], form) for m in methods.values()]
        return row(f"{TITLES[key]}, step {step}", cells)

    lines = [row("", [NAMES[name] for name in methods]), "|---" * (len(methods) + 1) + "|"]
    for part, title in (("control", "parameters of the control"), ("unet", "UNet parameters that learn too")):
        lines.append(row(title, [f"{m['trainable_parameters'][part]:,}" for m in methods.values()]))
    lines.append(row("training step, s", [f"{m['step_s']:.3f}" for m in methods.values()]))
    lines.append(row("sampling with control", [f"{m['inference_overhead']:+.0%}" for m in methods.values()]))
    lines += [at(step, "pose_error_percent") for step in steps]
    lines.append(at(steps[-1], "pose_found_percent", ".0f"))
    lines.append(at(steps[-1], "psnr", ".1f"))
    return "\n".join(lines)


TITLES = {"pose_error_percent": "pose error %", "pose_found_percent": "pose found %", "psnr": "PSNR dB"}


def draw_plot(figures: Mapping[str, Any], path: Path) -> None:
    """Pose error and PSNR by step, with what the base does without control and what the VAE allows."""
    from matplotlib.figure import Figure

    steps = [int(step) for step in next(iter(figures["methods"].values()))["at_step"]]
    figure = Figure(figsize=(8, 3.4), dpi=110, layout="constrained")
    titles = {"pose_error_percent": "pose error, % of height", "psnr": "PSNR, dB"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name, method in figures["methods"].items():
            values = [entry[key] for entry in method["at_step"].values()]
            axes.plot(steps, values, marker="o", markersize=3, label=NAMES[name])
        axes.axhline(figures["without_control"][key], color="grey", ls="--", lw=1, label="base, no control")
        axes.axhline(figures["ceiling"][key], color="grey", ls=":", lw=1, label="true frames through the VAE")
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.minorticks_off()
        axes.set_xlabel("training steps")
        axes.set_title(title)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path)

"""The page's skeleton: Gradio lays out tabs and fields; what is rich is drawn by the scripts in `static/`.

No event of Gradio's calls Python: fields are read by the scripts, which ask the routes under /api.
"""

from typing import TYPE_CHECKING, Any

from .asking import models
from .parts import ANIMATE, BATCH, CURATE, CURRENT, HEADER, JOBS, RESULT_OF_RUN

if TYPE_CHECKING:
    import gradio

    from .site import Site

FIELDS = (
    "model", "preset", "seed", "width", "height", "steps", "guidance_scale", "start", "duration", "stride",
    "person", "align", "fit", "character_prompt", "upscale", "accept_poses",
)  # fmt: skip
"""The options of `animate` that have a field, in the order in which scripts get their values."""


def theme() -> Any:
    """Fonts of the system alone, so that nothing is fetched from elsewhere."""
    from gradio import themes

    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    mono = ["ui-monospace", "DejaVu Sans Mono", "monospace"]
    return themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=fonts,
        font_mono=mono,
        spacing_size="sm",
        radius_size="md",
    )


def build(site: "Site") -> "gradio.Blocks":
    """The page. Gradio is told to send nothing home."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False, title="posedance", fill_width=True) as page:
        gr.HTML(HEADER, js_on_load=None, apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Animate", id="animate"):
                animate_tab(site)
            with gr.Tab("Jobs", id="jobs"):
                gr.HTML(JOBS, js_on_load=None, apply_default_css=False)
            with gr.Tab("Batch", id="batch"):
                gr.HTML(BATCH, js_on_load=None, apply_default_css=False)
            with gr.Tab("Curation", id="curate"):
                gr.HTML(CURATE, js_on_load=None, apply_default_css=False)
    return page


def animate_tab(site: "Site") -> None:
    """What goes in, the fields, and the buttons."""
    import gradio as gr

    gr.HTML(ANIMATE, js_on_load=None, apply_default_css=False)
    with gr.Row(equal_height=False, elem_classes="pd-settings"):
        known = models(site.defaults)
        names = [name for name, _ in known]
        usable = [name for name, why in known if not why]
        first = str(site.defaults.get("model") or ("demo" if "demo" in usable else usable[0]))
        fields: dict[str, Any] = {}
        with gr.Column(scale=2, min_width=280), gr.Group():
            fields["model"] = gr.Dropdown(names, value=first, label="Model", elem_id="f-model")
            fields["preset"] = gr.Radio(
                ["preview", "default", "best"], value="default", label="Preset", elem_id="f-preset"
            )
            fields["seed"] = number("Seed", "f-seed", value=0, precision=0, minimum=0)
        with gr.Column(scale=2, min_width=280):
            with gr.Group(), gr.Row():
                fields["start"] = number("Start (s)", "f-start", value=0, minimum=0)
                fields["duration"] = number("Duration (s)", "f-duration", minimum=0)
                fields["stride"] = number("Every n-th frame", "f-stride", value=2, precision=0, minimum=1)
            with gr.Group(), gr.Row():
                fields["width"] = number("Width", "f-width", precision=0, minimum=1)
                fields["height"] = number("Height", "f-height", precision=0, minimum=1)
                fields["steps"] = number("Steps", "f-steps", precision=0, minimum=1)
            fields["character_prompt"] = gr.Textbox(
                label="Character in words, in place of a picture", elem_id="f-character_prompt", max_lines=2
            )
            with gr.Accordion("More", open=False):
                fields["upscale"] = number("Enlarge by", "f-upscale", precision=0, minimum=2, maximum=4)
                fields["guidance_scale"] = number("Guidance scale", "f-guidance_scale", minimum=0)
                fields["align"] = gr.Radio(
                    ["limbs", "robust", "published", "wan", "none"],
                    value="limbs",
                    label="Fit of the pose",
                    elem_id="f-align",
                )
                fields["fit"] = gr.Radio(["crop", "pad"], value="crop", label="Picture", elem_id="f-fit")
                fields["person"] = gr.Textbox(
                    label="Who dances (left, 2, X,Y ...; click above)",
                    elem_id="f-person",
                    max_lines=1,
                )
                fields["accept_poses"] = gr.Checkbox(
                    value=False, label="Go on with poses that fall short", elem_id="f-accept_poses"
                )
        with gr.Column(scale=1, min_width=200):
            plan = gr.Button("Plan", elem_id="plan", size="lg")
            run = gr.Button("Run", variant="primary", elem_id="run", size="lg")
            gr.HTML(RESULT_OF_RUN, js_on_load=None, apply_default_css=False)
    gr.HTML(CURRENT, js_on_load=None, apply_default_css=False)
    ordered = [fields[name] for name in FIELDS]
    listed = ",".join(FIELDS)
    plan.click(None, ordered, None, js=f"(...values) => posedance.plan('{listed}', values)")
    run.click(None, ordered, None, js=f"(...values) => posedance.run('{listed}', values)")
    for field in ordered:
        field.change(None, ordered, None, js=f"(...values) => posedance.changed('{listed}', values)")
    fill = gr.Button("fill", elem_id="fill", elem_classes="pd-hidden")
    fill.click(None, None, ordered, js="() => posedance.filled()")


def number(label: str, name: str, **more: Any) -> "gradio.Number":
    """A field for a number that may be empty: the default then holds."""
    import gradio as gr

    return gr.Number(label=label, elem_id=name, min_width=90, **more)

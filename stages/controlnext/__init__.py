"""ControlNeXt (arXiv 2408.06070): the control module and how it is attached."""

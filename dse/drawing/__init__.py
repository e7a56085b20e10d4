"""A deployment as a drawing: pools with their accelerators, services and links in the order of the pipeline."""

from dse.drawing.deployment import draw_deployment

__all__ = ["draw_deployment"]

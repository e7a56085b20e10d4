"""What may vary in a deployment, and the way from a design to a deployment and back."""

from search_spaces.design import Design
from search_spaces.dimension import Dimension
from search_spaces.serving import ServingSpace, to_deployment, to_design
from search_spaces.space import Space

__all__ = ["Design", "Dimension", "ServingSpace", "Space", "to_deployment", "to_design"]

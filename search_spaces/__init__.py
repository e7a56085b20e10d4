"""What may vary in a deployment, and the way from a design to a deployment and back."""

from search_spaces.codes import Codes, Keys
from search_spaces.deployment import pool_of, to_deployment, to_design
from search_spaces.design import Design
from search_spaces.dimension import Dimension
from search_spaces.pools import dimensions_of_pool, pools_of
from search_spaces.serving import ServingSpace
from search_spaces.space import Space

__all__ = [
    "Codes",
    "Design",
    "Dimension",
    "Keys",
    "ServingSpace",
    "Space",
    "dimensions_of_pool",
    "pool_of",
    "pools_of",
    "to_deployment",
    "to_design",
]

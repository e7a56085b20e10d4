"""What people have, as what is simulated: engines' arguments, metrics and request logs."""

from dse.imports.engine import Imported, import_engine
from dse.imports.metrics import import_metrics
from dse.imports.requests import import_requests

__all__ = ["Imported", "import_engine", "import_metrics", "import_requests"]

"""TensorBoard's panels, beside the curves of a run."""

from pytorch_lightning import Callback

from alexnet.diagnostics.activations import Activations
from alexnet.diagnostics.memory import Memory
from alexnet.diagnostics.updates import Updates
from alexnet.validation import check_bool
from alexnet.visualization.confusion import Confusion
from alexnet.visualization.filters import Filters
from alexnet.visualization.graph import Graph
from alexnet.visualization.projector import Projector
from alexnet.visualization.sheet import Inputs
from alexnet.visualization.top_losses import TopLosses


def panels(
    *,
    inputs: bool = True,
    filters: bool = True,
    confusion: bool = True,
    mistakes: bool = True,
    updates: bool = True,
    activations: bool = True,
    memory: bool = True,
    graph: bool = True,
    projector: bool = True,
) -> list[Callback]:
    """Returns the callbacks that are switched on. Raises ArgumentError for a switch that is no boolean."""
    kinds: dict[type[Callback], bool] = {
        Inputs: check_bool("inputs", inputs),
        Filters: check_bool("filters", filters),
        Confusion: check_bool("confusion", confusion),
        TopLosses: check_bool("mistakes", mistakes),
        Updates: check_bool("updates", updates),
        Activations: check_bool("activations", activations),
        Memory: check_bool("memory", memory),
        Graph: check_bool("graph", graph),
        Projector: check_bool("projector", projector),
    }
    return [kind() for kind, wanted in kinds.items() if wanted]

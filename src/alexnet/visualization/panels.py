"""What TensorBoard shows of a run beside its curves."""

from pytorch_lightning import Callback

from alexnet.diagnostics.activations import Activations
from alexnet.diagnostics.memory import Memory
from alexnet.diagnostics.updates import Updates
from alexnet.validation import flag
from alexnet.visualization.confusion import Confusion
from alexnet.visualization.filters import Filters
from alexnet.visualization.graph import Graph
from alexnet.visualization.mistakes import Mistakes
from alexnet.visualization.projector import Projector
from alexnet.visualization.sheet import Inputs


def panels(
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
    """The callbacks that are switched on. Raises ArgumentError for a switch that is neither true nor false."""
    kinds: dict[type[Callback], bool] = {
        Inputs: flag("inputs", inputs),
        Filters: flag("filters", filters),
        Confusion: flag("confusion", confusion),
        Mistakes: flag("mistakes", mistakes),
        Updates: flag("updates", updates),
        Activations: flag("activations", activations),
        Memory: flag("memory", memory),
        Graph: flag("graph", graph),
        Projector: flag("projector", projector),
    }
    return [kind() for kind, wanted in kinds.items() if wanted]

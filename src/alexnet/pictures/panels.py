"""What TensorBoard shows of a run beside its curves."""

from pytorch_lightning import Callback

from alexnet.checks import flag
from alexnet.pictures.activations import Activations
from alexnet.pictures.confusion import Confusion
from alexnet.pictures.filters import Filters
from alexnet.pictures.graph import Graph
from alexnet.pictures.memory import Memory
from alexnet.pictures.mistakes import Mistakes
from alexnet.pictures.projector import Projector
from alexnet.pictures.sheet import Inputs
from alexnet.pictures.updates import Updates


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

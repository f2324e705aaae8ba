"""Networks as plain torch modules: no Lightning and no Hydra needed."""

from alexnet.models.alexnet import AlexNet

__all__ = ["AlexNet"]

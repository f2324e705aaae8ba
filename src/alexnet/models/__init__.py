"""Networks as plain torch modules: no Lightning and no Hydra needed."""

from alexnet.models.alexnet import AlexNet
from alexnet.models.alexnet_torchvision import TorchvisionAlexNet

__all__ = ["AlexNet", "TorchvisionAlexNet"]

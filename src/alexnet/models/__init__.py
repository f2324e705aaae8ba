"""Networks as plain torch modules: no Lightning and no Hydra needed."""

from alexnet.models.alexnet import AlexNet
from alexnet.models.cifar_net import CifarNet
from alexnet.models.conv_local import ConvLocalNet
from alexnet.models.lenet import LeNet
from alexnet.models.torchvision_alexnet import TorchvisionAlexNet
from alexnet.models.tutorial_net import TutorialNet

__all__ = [
    "AlexNet",
    "CifarNet",
    "ConvLocalNet",
    "LeNet",
    "TorchvisionAlexNet",
    "TutorialNet",
]

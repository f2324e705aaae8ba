import pytest
import torch
from torch import nn

from alexnet.models import AlexNet
from alexnet.models.base import load_weights

SMALL = {"num_classes": 7, "image_size": 67, "width": 1 / 16}


def test_the_first_differences_are_named() -> None:
    other = AlexNet(**SMALL, lrn=False, groups=1, activation="tanh")
    with pytest.raises(ValueError, match="these weights belong to another variant: ") as caught:
        AlexNet(**SMALL).load_state_dict(other.state_dict())
    said = str(caught.value)
    assert "activation is tanh there and relu here, lrn is False there and True here" in said
    assert said.endswith("more")
    with pytest.raises(ValueError, match=r"features.conv2.weight is \(16, 6, 5, 5\) there and \(16, 3, 5, 5\) here"):
        AlexNet(**SMALL).load_state_dict(AlexNet(**SMALL, groups=1).state_dict())
    with pytest.raises(ValueError, match=r"activation is sigmoid there.*features.conv1.weight is .* more"):
        AlexNet(**SMALL).load_state_dict(AlexNet(**SMALL | {"width": 1 / 8}, activation="sigmoid").state_dict())


def test_as_a_part_of_another_network_it_still_refuses() -> None:
    whole = nn.ModuleDict({"net": AlexNet(**SMALL)})
    other = nn.ModuleDict({"net": AlexNet(**SMALL, activation="tanh")})
    with pytest.raises(ValueError, match="activation is tanh there and relu here"):
        whole.load_state_dict(other.state_dict())


def test_other_classes_are_offered_a_new_head() -> None:
    old, new = AlexNet(**SMALL | {"num_classes": 10}), AlexNet(**SMALL | {"num_classes": 3})
    before = new.classifier.fc8.weight.clone()
    with pytest.raises(ValueError, match=r"10 classes, here are 3: new_head=true re-initialises classifier.fc8"):
        load_weights(new, old.state_dict())
    load_weights(new, old.state_dict(), new_head=True)
    assert torch.equal(new.features.conv1.weight, old.features.conv1.weight)
    assert torch.equal(new.classifier.fc8.weight, before)
    with pytest.raises(ValueError, match=r"another variant: features.conv1.weight is"):
        load_weights(AlexNet(**SMALL | {"num_classes": 3, "in_channels": 1}), old.state_dict(), new_head=True)

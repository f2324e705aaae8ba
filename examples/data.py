"""The data pipeline alone, in plain PyTorch: LeNet on the digits, packed, cut and augmented as for any run."""

import torch
from torch.nn.functional import cross_entropy

from alexnet.data import Augment, ImageDataModule
from alexnet.models import LeNet

data = ImageDataModule("digits", channels=1, size=36, crop=32, batch_size=32, augment=Augment(crop=True))
data.setup()
torch.manual_seed(0)
network = LeNet(data.num_classes, data.channels, data.crop, activation="relu")
optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)

loader = data.loader("train", training=True)
for epoch in range(5):
    loader.batch_sampler.sampler.set_epoch(epoch)  # another order, and other windows
    for images, labels, draws in loader:  # uint8, and each image's own random numbers
        loss = cross_entropy(network(data.preprocess(images, draws)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.4f}")

with torch.no_grad():
    right = [network(data.preprocess(images)).argmax(1) == labels for images, labels, _ in data.loader("test")]
print(f"test top-1 accuracy {torch.cat(right).float().mean():.4f}")

"""Trains AlexNet as a tutorial does, in one file and without this template: the baseline for train.py.

python script.py FOLDER WIDTH; FOLDER has train/CLASS/*.jpg, val/ and test/.
"""

import os
import sys
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

EPOCHS, BATCH = 1, 64


def transcription(width: float = 1.0, num_classes: int = 1000) -> nn.Sequential:
    """Returns the paper's network in torch's own layers. torch's LRN divides alpha by n, hence 5e-4."""
    c1, c2, c3, c4, c5, c6 = (round(width * c) for c in (96, 256, 384, 384, 256, 4096))
    act, norm, pool = partial(nn.ReLU, inplace=True), partial(nn.LocalResponseNorm, 5, 5e-4, 0.75, 2.0), nn.MaxPool2d
    return nn.Sequential(
        nn.Conv2d(3, c1, 11, stride=4), act(), norm(), pool(3, 2),
        nn.Conv2d(c1, c2, 5, padding=2, groups=2), act(), norm(), pool(3, 2),
        nn.Conv2d(c2, c3, 3, padding=1), act(),
        nn.Conv2d(c3, c4, 3, padding=1, groups=2), act(),
        nn.Conv2d(c4, c5, 3, padding=1, groups=2), act(), pool(3, 2),
        nn.Flatten(), nn.Linear(36 * c5, c6), act(), nn.Dropout(), nn.Linear(c6, c6), act(), nn.Dropout(),
        nn.Linear(c6, num_classes),
    )  # fmt: skip


def main(folder: str, width: float) -> None:
    """Trains torch's layers as tutorials do, and prints the accuracy."""
    normal = Compose([ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    augmented = Compose([Resize(256), RandomCrop(227), RandomHorizontalFlip(), normal])
    plain = Compose([Resize(256), CenterCrop(227), normal])
    transforms = {"train": augmented, "val": plain, "test": plain}
    splits = {split: ImageFolder(f"{folder}/{split}", transform) for split, transform in transforms.items()}
    loaders = {
        split: DataLoader(images, BATCH, shuffle=split == "train", num_workers=os.cpu_count() or 1)
        for split, images in splits.items()
    }
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(kind)
    network = transcription(width, len(splits["train"].classes)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)

    @torch.no_grad()
    def accuracy(split: str) -> float:
        network.eval()
        right = sum(int((network(x.to(device)).argmax(1).cpu() == y).sum()) for x, y in loaders[split])
        return right / len(splits[split])

    for epoch in range(EPOCHS):
        network.train()
        for x, y in loaders["train"]:
            loss = cross_entropy(network(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, validation accuracy {accuracy('val'):.4f}")
    print(f"test accuracy {accuracy('test'):.4f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))

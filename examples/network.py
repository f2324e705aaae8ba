"""The network alone, in plain PyTorch: AlexNet without LRN learns eight random images by heart."""

import torch
from torch.nn.functional import cross_entropy

from alexnet.models import AlexNet

torch.manual_seed(0)
network = AlexNet(num_classes=8, image_size=99, width=0.25, lrn=False, dropout=0)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
images, labels = torch.randn(8, 3, 99, 99), torch.arange(8)

for step in range(31):
    loss = cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: loss {loss.item():.4f}")

"""Operations of torchvision on a batch of images, with a different argument for each image."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

CHUNK = 700_000  # numbers worked on at a time on the CPU, so that they stay in its cache


def flipped(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Returns a copy of the images in which the chosen ones are mirrored."""
    if images.device.type != "cpu":  # indexing with a mask would make the host wait for the device
        return torch.where(chosen[:, None, None, None], images.flip(axis), images)
    result = images.clone(memory_format=torch.preserve_format)
    if images.shape[1:].numel() < 50_000:
        result[chosen] = images[chosen].flip(axis)
    else:  # one large image at a time stays in the cache: three times as fast
        for i in chosen.nonzero().flatten().tolist():
            result[i] = images[i].flip(axis)
    return result


def resized_crop(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, side: int) -> Tensor:
    """Does torchvision's resized_crop (bilinear, not antialiased) with a different window for each sample."""
    steps = (torch.arange(side, device=x.device) + 0.5) / side

    def positions(start: Tensor, length: Tensor, size: int) -> Tensor:  # pixel centres, never outside the window
        p = (steps * length[:, None] - 0.5).clamp(min=0).minimum(length[:, None] - 1) + start[:, None]
        return (2 * p + 1) / size - 1  # to grid_sample's -1..1

    rows, columns = positions(top, height, x.shape[-2]), positions(left, width, x.shape[-1])
    grid = torch.stack((columns[:, None].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)), -1)
    return grid_sample(x, grid, padding_mode="border", align_corners=False)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Does torchvision's adjust_hue for RGB in [0, 1], (N, 3, H, W), with a different angle for each sample."""
    value, minimum = x.amax(1), x.amin(1)
    chroma = value - minimum
    r, g, b = (value[:, None] - x).div(chroma.clamp(min=1e-12)[:, None]).unbind(1)  # 0 in the largest channel
    largest = x.argmax(1)
    sixths = torch.where(largest == 0, b - g, torch.where(largest == 1, 2 + r - b, 4 + g - r))
    hue = (sixths / 6 + turn[:, None, None]) % 1
    # Channel n of HSV to RGB is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    n = torch.arange(5.0, 0.0, -2.0, device=x.device)  # 5, 3 and 1, made there: copying them makes the host wait
    k = (n[:, None, None] + 6 * hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def in_boxes(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], height: int, width: int) -> Tensor:
    """Returns which pixels lie in the box of each sample, bool (N, 1, height, width).

    rows, columns: the first of the box and the first after it, each (N,).
    """

    def between(ends: tuple[Tensor, Tensor], size: int) -> Tensor:
        first, end = ends
        place = torch.arange(size, device=first.device)
        return (place >= first[:, None]) & (place < end[:, None])

    return (between(rows, height)[:, :, None] & between(columns, width)[:, None])[:, None]


def per_image(values: Tensor) -> Tensor:
    """Reshapes (N,) to (N, 1, 1, 1), which broadcasts with images."""
    return values[:, None, None, None]


def affine(images: Tensor, scale: Tensor, shift: Tensor, subtract: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns images (N, C, H, W) times scale (C,) plus shift (N, C), less another image (C, H, W).

    Computed in float32, given in `dtype`, channels-last. A row of pixels is one run of W x C numbers
    in memory, so scale and shift are laid out as such rows.
    """
    n, c, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(n, height, width * c)
    out = torch.empty(pixels.shape, dtype=dtype, device=images.device)
    scale, shift = scale.repeat(width), shift.repeat(1, width)[:, None]
    chunk = n
    if images.device.type == "cpu":
        chunk = max(1, CHUNK // (height * width * c))
    if subtract is not None:
        subtract = subtract.permute(1, 2, 0).reshape(height, width * c)
    work = torch.empty(chunk, height, width * c, device=images.device)
    for x, s, y in zip(pixels.split(chunk), shift.split(chunk), out.split(chunk), strict=True):
        done = torch.addcmul(s, work[: len(x)].copy_(x), scale, out=work[: len(x)])
        if subtract is not None:
            done.sub_(subtract)
        y.copy_(done)
    return out.view(n, height, width, c).permute(0, 3, 1, 2)

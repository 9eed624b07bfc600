"""Image arithmetic of the papers on uint8 arrays, without OpenCV: resize, crop, scale to [-1, 1], dequantise.

Arrays are numpy, (H, W, C) or (H, W), as image files are read; ``nchw`` turns a finished image into a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

COEFFICIENT_BITS = 11  # of the weights in OpenCV's bilinear resize of 8-bit images
CELEBA_CROP = 160  # of 178 x 218, in iin (section 3.5) and net2net (section 3, data)


def resize(image: U8, height: int, width: int) -> U8:
    """Bilinear resize as ``cv2.resize(..., INTER_LINEAR)`` does it on 8-bit images: half-pixel centres, no antialias.

    Weights have 11 bits, horizontally in exact integers, vertically with the truncations of OpenCV's vector code; the
    results agree to the grey level.

    Arguments:
        image: (H, W, C) or (H, W), uint8.

    Raises:
        ValueError: for another dtype, another number of axes or an empty size.
    """
    _check(image)
    if height < 1 or width < 1:
        raise ValueError(f"resize: expected a height and width of at least 1, got {height} x {width}")
    if image.shape[:2] == (height, width):
        return image.copy()
    x, x_weight = _taps(image.shape[1], width)
    y, y_weight = _taps(image.shape[0], height)
    # Beyond the first and last column there is one tap; beyond the first and last row there are two equal ones, each
    # of which is truncated: the weights differ, not only the positions.
    single = (x < 0) | (x >= image.shape[1] - 1)
    x_weight = np.where(single[:, None], (1 << COEFFICIENT_BITS, 0), x_weight)
    left, right = (np.clip(x + step, 0, image.shape[1] - 1) for step in (0, 1))
    upper, lower = (np.clip(y + step, 0, image.shape[0] - 1) for step in (0, 1))
    trailing = (1,) * (image.ndim - 2)
    source = image.astype(np.int32)
    rows = source[:, left] * x_weight[:, 0].reshape(-1, *trailing)
    rows += source[:, right] * x_weight[:, 1].reshape(-1, *trailing)
    rows >>= 4
    above, below = (y_weight[:, tap].reshape(-1, 1, *trailing) for tap in (0, 1))
    total = ((rows[upper] * above) >> 16) + ((rows[lower] * below) >> 16)
    return np.clip((total + 2) >> 2, 0, 255).astype(np.uint8)


def _taps(size: int, new: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each new position: the source position left of it, (new,), and the 11-bit weights of it and the next."""
    place = ((np.arange(new) + 0.5) * (1 / (new / size)) - 0.5).astype(np.float32)
    first = np.floor(place)
    second = place - first
    weights = np.stack([np.float32(1) - second, second], 1) * np.float32(1 << COEFFICIENT_BITS)
    return first.astype(np.int32), np.rint(weights).astype(np.int32)


def resize_smallest(image: U8, size: int) -> U8:
    """The smaller side becomes ``size``, both sides round(side * size / smaller).

    Source: iin 3.5 step 3; net2net 3 (ImagePaths); invariances 3 (data pre-processing).
    """
    _check(image)
    smaller = min(image.shape[:2])
    height, width = (round(side * (size / smaller)) for side in image.shape[:2])
    return resize(image, height, width)


def centre_crop(image: U8, size: int) -> U8:
    """The middle ``size`` x ``size`` pixels; of an odd margin, the smaller half is above and to the left.

    Source: iin 3.5 step 3; net2net 3; invariances 3.

    Raises:
        ValueError: if the image is smaller.
    """
    return _crop(image, size, [side // 2 for side in _margins(image, size)])


def random_crop(image: U8, size: int, generator: np.random.Generator | np.random.RandomState) -> U8:
    """``size`` x ``size`` pixels from a place that the generator draws, each with the same probability.

    Source: net2net 3 (COCO, training part); invariances 3 (ImageNet, training part).

    Raises:
        ValueError: if the image is smaller.
    """
    return _crop(image, size, [int(generator.uniform() * (side + 1)) for side in _margins(image, size)])


def _margins(image: U8, size: int) -> list[int]:
    _check(image)
    if min(image.shape[:2]) < size:
        raise ValueError(f"crop: expected an image of at least {size} x {size} pixels, got {image.shape[:2]}")
    return [side - size for side in image.shape[:2]]


def _crop(image: U8, size: int, corner: Sequence[int]) -> U8:
    top, left = corner
    return image[top : top + size, left : left + size]


def to_float(image: U8) -> F32:
    """x / 127.5 - 1, float32 in [-1, 1]. Source: iin 3.5 step 1; net2net 3; invariances 3."""
    return (_bytes(image) / 127.5 - 1.0).astype(np.float32)


def to_u8(image: F32) -> U8:
    """(x + 1) * 127.5, clipped and truncated: 95 of the 256 grey values come back one lower.

    Source: iin 3.5 step 2; iin 4.1, the images of the FID.
    """
    return np.clip((image + 1.0) * 127.5, 0, 255).astype(np.uint8)


def dequantise(image: U8, noise: float) -> F32:
    """2 (x + noise) / 256 - 1, float32 in [-1, 1): one number in [0, 1) for the whole image.

    Source: iin 3.5 step 4; the same as net2net's 255 (x + noise) / 256 followed by / 127.5 - 1 for CelebA.
    """
    return ((_bytes(image) + noise) / 256.0 * 2.0 - 1.0).astype(np.float32)


def iin_image(image: U8, noise: float, size: int = 32) -> F32:
    """MNIST, FashionMNIST and CIFAR10 of iin, section 3.5: steps 1 to 4 with a centre crop of ``size``."""
    return dequantise(centre_crop(resize_smallest(to_u8(to_float(image)), size), size), noise)


def iin_celeba(image: U8, noise: float, size: int = 64, crop: int = CELEBA_CROP) -> F32:
    """CelebA of iin, section 3.5: truncated, centre crop of 160, then 64 pixels, dequantised."""
    return dequantise(celeba(to_u8(to_float(image)), size, crop), noise)


def net2net_celeba(image: U8, noise: float, size: int = 256) -> F32:
    """CelebA of net2net, section 3: centre crop of 160, then ``size``, dequantised; nothing is truncated before."""
    return dequantise(celeba(image, size), noise)


def celeba(image: U8, size: int, crop: int = CELEBA_CROP) -> U8:
    """CelebA's centre crop of 160 from 178 x 218 pixels, then ``size``, uint8.

    Source: iin 3.5 step 3; net2net 3.
    """
    return resize_smallest(centre_crop(image, crop), size)


def smallest_centre(image: U8, size: int) -> F32:
    """Smaller side to ``size``, centre crop, [-1, 1].

    Source: net2net 3 (ImagePaths: faces, portraits, anime, COCO validation); invariances 3 (AnimalFaces, ``size`` 128).
    """
    return to_float(centre_crop(resize_smallest(image, size), size))


def smallest_random(image: U8, size: int, generator: np.random.Generator | np.random.RandomState) -> F32:
    """Smaller side to ``size``, random crop, [-1, 1].

    Source: net2net 3 (COCO, training part); invariances 3 (ImageNet, training part).
    """
    return to_float(random_crop(resize_smallest(image, size), size, generator))


def downsample(images: Tensor, size: int) -> Tensor:
    """Nearest down-sampling: of a side k * ``size``, every k-th pixel, from the first on.

    Source: net2net 3 (the condition of super-resolution, 256 to 32: every 8th pixel).

    Arguments:
        images: (B, C, H, W).

    Returns:
        (B, C, size, size).

    Raises:
        ValueError: if a side is smaller than ``size``.
    """
    if min(images.shape[-2:]) < size:
        raise ValueError(f"downsample: expected sides of at least {size}, got {tuple(images.shape[-2:])}")
    return F.interpolate(images, size=(size, size), mode="nearest")


def nchw(image: F32) -> Tensor:
    """(H, W, C) or (H, W) as a (C, H, W) tensor."""
    channels = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(channels))


def _check(image: U8) -> None:
    if _bytes(image).ndim not in (2, 3):
        raise ValueError(f"image: expected the shape (H, W, C) or (H, W), got {image.shape}")


def _bytes(image: U8) -> U8:
    if image.dtype != np.uint8:
        raise ValueError(f"image: expected uint8, got {image.dtype} of shape {image.shape}")
    return image

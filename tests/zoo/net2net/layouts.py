"""Tiny files and folders in the layouts of the authors and of the papers' data sets, for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo import cli, published
from zoo.data import pairs


def colours(path: Path, count: int, seed: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    """A folder of pictures, each a colour with some noise; as CelebA-HQ's arrays if it is called so."""
    random = np.random.RandomState(seed)
    path.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image = np.clip(random.randint(256, size=3) + random.randint(-30, 30, (*size, 3)), 0, 255).astype(np.uint8)
        if path.name == "celebahq":
            np.save(path / f"{k:02d}.npy", np.moveaxis(image, 2, 0)[None])
        else:
            Image.fromarray(image).save(path / f"{k:02d}.png")
    return path


def celeba(root: Path, count: int = 24) -> np.ndarray[Any, Any]:
    """CelebA as torchvision reads it, a third for each part; returns the attributes."""
    base = root / "celeba"
    names = [f"{index:06d}.jpg" for index in range(1, count + 1)]
    attributes = np.random.RandomState(0).choice([-1, 1], (count, 40))
    colours(base / "img_align_celeba", count, size=(218, 178))
    for name, file in zip(names, sorted((base / "img_align_celeba").iterdir()), strict=True):
        Image.open(file).save(file.with_name(name), quality=95)
        file.unlink()
    table = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, attributes, strict=True)]
    (base / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(pairs.CELEBA_COLUMNS), *table]) + "\n")
    parts = "".join(f"{name} {3 * k // count}\n" for k, name in enumerate(names))
    (base / "list_eval_partition.txt").write_text(parts)
    (base / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    for file in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (base / file).write_text(f"{count}\nx y\n" + "".join(f"{name} 1 2\n" for name in names))
    return attributes


def coco(root: Path, captions: Sequence[str], latents: int = 0) -> Path:
    """COCO 2017 with two captions a picture; with latents of BigBiGAN's encoder if they have a size."""
    (root / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        colours(root / f"{part}2017", len(captions))
        facts: dict[str, Any] = {
            "images": [{"id": k, "file_name": f"{k:02d}.png"} for k in range(len(captions))],
            "annotations": [{"image_id": k, "caption": text} for k, text in enumerate(captions) for _ in range(2)],
        }
        (root / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(facts))
        if latents:
            codes = np.random.RandomState(1).standard_normal((len(captions), latents)).astype(np.float32)
            np.save(root / f"bigbigan_{part}2017.npy", codes)
    return root


def theirs(name: str, file: Path, seed: int = 0, prefix: str = "", **options: Any) -> dict[str, torch.Tensor]:
    """A file as the authors' code writes it of a registered network with random weights; returns what is in it."""
    torch.manual_seed(seed)
    entry = zoo.registry.entry(name)
    given = {**published.published(name).options, **options}
    model = entry.graph(**given).build()
    visible(model)
    for key, value in model.state_dict().items():
        if key.endswith(("scale", "running_var")):
            value.uniform_(0.8, 1.2)
        elif key.endswith("initialized"):
            value.fill_(1)
    state = published.export(name, model, {**entry.defaults, **given})
    state = {prefix + key: value for key, value in state.items()} if prefix else state
    torch.save({"state_dict": state, "epoch": 4, "global_step": 10}, file)
    return state


def visible(model: torch.nn.Module) -> None:
    """Weights of such a size that pictures of random networks differ by more than rounding."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


class Drawn(dict[str, Any]):
    """What the verbs draw: the images of each grid by the picture's name, as a tensor or rows of tensors."""


def run(*words: str, out: Path) -> int:
    return cli.main([*words, "--out", str(out)])


def close(a: Tensor, b: Tensor, tolerance: float = 2e-4) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < tolerance

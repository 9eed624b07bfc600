"""The published configurations on synthetic data: small stand-ins for the experts, training, and grids of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from flowkit.graph import BuiltGraph
from zoo import pictures, registry, weights
from zoo.experts.biggan import BigGAN
from zoo.experts.labels import Labelator
from zoo.fusion.experts import Small
from zoo.net2net import experts, runs, translate
from zoo.net2net.autoencoder_experiment import GaussianAutoencoder
from zoo.net2net.experiment import RUNS, FlowExperiment, Net2BigGANFlow, Net2NetFlow, latents
from zoo.net2net.graph import RELEASED
from zoo.runs.autoencoder import scaled
from zoo.training.batches import mixed, seeded
from zoo.training.fit import Data, Fit, fit
from zoo.verbs import Context

NEEDED = {
    "superresolution-faces": "source=net2net/ae-faces32, target=net2net/ae-faces256",
    "anime-photography": "target=net2net/ae-anime256",
    "portraits-photography": "target=net2net/ae-portraits256",
    "celeba-celebahq-ffhq": "target=net2net/ae-faces256",
    "sbert-to-coco-ae256": "source=a sentence BERT of 1024 numbers, target=net2net/ae-coco256",
    "sbert-to-bigbigan": "source=a sentence BERT of 1024 numbers, target=net2net/bigbigan-generator and latents of its "
    "encoder",
    "sbert-to-biggan256": "source=the captioner with its word map and a sentence BERT of 768 numbers, "
    "target=net2net/biggan256 and net2net/dequantiser",
}
"""The experts that a configuration is trained between."""
STAND_INS = "stand-ins"
"""Marks weight files of flows that were trained between them."""
SIZE, WIDTH, CLASSES, EXAMPLES = 32, 4, 10, {"train": 16, "validation": 4, "test": 16}


class Texts(nn.Module):
    """In the place of a sentence BERT: a fixed random vector for each letter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.read = Small(dim).read

    def forward(self, texts: list[str]) -> Tensor:
        return self.read(texts)


class Described(nn.Module):
    """In the place of captioner and sentence BERT: a fixed random projection of the pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = Small(dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(images)


class OwnLatents(nn.Module):
    """BigBiGAN's generator as a second expert; what is encoded are latents already."""

    def __init__(self, net: BuiltGraph) -> None:
        super().__init__()
        self.net: Any = net

    def encode(self, codes: Tensor) -> Tensor:
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        first = torch.zeros(len(codes), self.net.graph.input_shapes["classes"][0])
        first[:, 0] = 1  # its only class
        images: Tensor = self.net(codes, first)
        return images


@dataclass(frozen=True)
class Rehearsal:
    """A published configuration between stand-ins.

    Arguments:
        experiment: its Lightning module, with flow and experts.
        decode: the second expert's latents (B, D) -> images.
        labels: K of a flow between K domains, 0 for others.
    """

    name: str
    experiment: FlowExperiment
    decode: Callable[[Tensor], Tensor]
    labels: int = 0

    @property
    def flow(self) -> BuiltGraph:
        return self.experiment.flow

    def examples(self, part: str, seed: int = 0) -> list[dict[str, Any]]:
        """Squares of random colours, what is said of them, and latents."""
        count, noise = EXAMPLES[part], seeded(seed, *part.encode())
        images = scaled(runs.squares(count, SIZE, mixed(seed, *part.encode())))
        codes = torch.randn(count, self.flow.graph.input_shapes["x"][0] or 0, generator=noise)
        return [
            {"image": images[k], "class": k % (self.labels or CLASSES), "latent": codes[k], "z": codes[k, :-128],
             "caption": f"square {k}"} for k in range(count)
        ]  # fmt: skip

    @torch.no_grad()
    def encodings(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Latents (count, D) and conditions (count, K) of the test part."""
        test = self.examples("test")
        if not 1 <= count <= len(test):
            raise ValueError(f"count: expected 1 to {len(test)}, got {count}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.experiment.encodings(default_collate(test[:count]))


def known(name: str) -> bool:
    """Whether it is the name of a published configuration."""
    return name.partition("/")[2] in RELEASED


def rehearsal(context: Context, training: bool = False) -> Rehearsal:
    """A flow of fresh weights with ``--random``, else the one that was trained in the folder between stand-ins.

    Raises:
        ValueError: without either, with what the real configuration needs.
    """
    name, file = context.name.partition("/")[2], context.file(context.name)
    there = not training and context.weights is None and file.is_file() and STAND_INS in weights.read(file)[1]
    if not (context.random or there):
        raise ValueError(
            f"{context.name}: the verbs run it on synthetic data between stand-ins alone: add --random, and depth= and "
            f"hidden= for less width. Real use needs {NEEDED[name]}, and {RUNS[name].data}: load them with zoo.load, "
            "train with zoo.net2net.experiment and zoo.training.fit"
        )
    flow = context.network()
    runs.refuse_other_options(context, flow)
    context.console.print(f"{context.name}: synthetic data, random stand-ins for the experts", highlight=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _between_stand_ins(name, flow)


def _between_stand_ins(name: str, flow: BuiltGraph) -> Rehearsal:
    dim, condition = (flow.graph.input_shapes[key][0] or 0 for key in ("x", "condition"))
    rate = RUNS[name].learning_rate()
    if name == "sbert-to-biggan256":
        generator = BigGAN(registry.build("net2net/tiny-biggan", latent=dim - 128))
        noisy = experts.Dequantiser(registry.build("net2net/dequantiser", hidden=16))
        captioned = Net2BigGANFlow(flow, generator, Described(condition), nn.Identity(), noisy, rate)
        return Rehearsal(name, captioned, lambda x: generator.generate_from_embedding(*latents(x, (dim - 128, 128))))
    if name == "sbert-to-bigbigan":
        painter = OwnLatents(registry.build("net2net/tiny-bigbigan-generator"))
        return Rehearsal(name, Net2NetFlow(flow, painter, Texts(condition), rate, "latent", "caption"), painter.decode)
    target = _autoencoder(dim)
    expert: nn.Module
    if name == "superresolution-faces":
        expert, key = experts.SmallImages(_autoencoder(condition), SIZE), "image"
    elif name == "sbert-to-coco-ae256":
        expert, key = Texts(condition), "caption"
    else:
        expert, key = Labelator(condition), "class"
    module = Net2NetFlow(flow, target, expert, rate, source_key=key)
    return Rehearsal(name, module, target.decode, condition if key == "class" else 0)


def _autoencoder(latent: int) -> GaussianAutoencoder:
    return GaussianAutoencoder(registry.build("net2net/ae-faces32", size=SIZE, latent=latent, width=WIDTH))


def train(context: Context, steps: int) -> None:
    """Trains the flow on synthetic data; goes on after an interruption."""
    made = rehearsal(context, training=True)
    data = Data(made.examples("train"), made.examples("validation"))
    settings = Fit(steps, batch=4, every=1, accelerator="cpu", seed=context.seed)
    done = fit(made.experiment, data, context.out / "training" / made.name, settings, context.console,
               restart=context.fresh)  # fmt: skip
    weights.save(made.flow.eval(), context.file(context.name), {STAND_INS: "yes", "steps": str(steps)})
    last = done.history[-1]
    context.console.print(f"{context.file(context.name)}: {steps} steps, validation {last['validation']:.3f}")


@torch.no_grad()
def sample(context: Context, count: int, samples: int) -> None:
    """samples.png: a condition a row; the real latent's picture, then those of v ~ N(0, 1)."""
    made = rehearsal(context)
    x, condition = made.encodings(count, context.seed)
    noise = seeded(context.seed, *b"pictures")
    drawn = [made.decode(translate.sample(made.flow, condition, noise)) for _ in range(samples)]
    _draw(context, made, [made.decode(x), *drawn], "samples",
          columns=["real", *(f"v {k + 1}" for k in range(samples))])  # fmt: skip


@torch.no_grad()
def reconstruct(context: Context, count: int) -> None:
    """reconstruct.png: latents' pictures, through the flow and back, and given the next one's condition."""
    made = rehearsal(context)
    x, condition = made.encodings(count, context.seed)
    rows = [x, translate.reconstruct(made.flow, x, condition), translate.shift(made.flow, x, condition)]
    path = context.out / "reconstruct.png"
    pictures.grid(torch.stack([made.decode(row) for row in rows]), path, title=_title(made),
                  rows=["latent", "through the flow", "next one's condition"])  # fmt: skip


@torch.no_grad()
def swap(context: Context, count: int, alpha: float) -> None:
    """swap.png: the column's condition with the row's v; latents are (1 - alpha) z + alpha z'."""
    made = rehearsal(context)
    x, condition = made.encodings(count, context.seed)
    _every(context, made, x, condition, condition, alpha, "swap", [f"condition {k + 1}" for k in range(count)])


@torch.no_grad()
def transfer(context: Context, count: int, alpha: float) -> None:
    """transfer.png: pictures given every label; ValueError for a configuration without labels."""
    made = rehearsal(context)
    _labelled(context, made)
    x, condition = made.encodings(count, context.seed)
    every = torch.eye(made.labels)
    _every(context, made, x, condition, every, alpha, "transfer", [f"label {k}" for k in range(made.labels)])


@torch.no_grad()
def sample_all_labels(context: Context, count: int) -> None:
    """labels.png: a v a row, given every label; ValueError for a configuration without labels."""
    made = rehearsal(context)
    _labelled(context, made)
    v = torch.randn(count, made.flow.graph.input_shapes["x"][0] or 0, generator=seeded(context.seed, *b"pictures"))
    z = translate.sample_all(made.flow, v, torch.eye(made.labels))
    images = made.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    pictures.grid(images, context.out / "labels.png", columns=[f"label {k}" for k in range(made.labels)],
                  title=_title(made))  # fmt: skip


def _labelled(context: Context, made: Rehearsal) -> None:
    if not made.labels:
        names = ", ".join(f"net2net/{n}" for n in RELEASED if n.endswith(("photography", "ffhq")))
        raise ValueError(f"{context.name}: its condition is no label; expected one of {names}")


def _every(context: Context, made: Rehearsal, x: Tensor, condition: Tensor, targets: Tensor, alpha: float, name: str,
           columns: list[str]) -> None:  # fmt: skip
    """Each x under each target condition, beside what it is."""
    moved = [translate.transfer(made.flow, x, condition, t.expand(len(x), -1), alpha) for t in targets]
    _draw(context, made, [made.decode(z) for z in (x, *moved)], name, columns=["as it is", *columns])


def _draw(context: Context, made: Rehearsal, images: list[Tensor], name: str, columns: list[str]) -> None:
    pictures.grid(torch.stack(images, 1), context.out / f"{name}.png", columns=columns, title=_title(made))


def _title(made: Rehearsal) -> str:
    return f"net2net/{made.name}. Synthetic data, random experts"

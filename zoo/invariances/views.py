"""What can be seen of a system's invariances: each function draws one picture and returns its figures."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo.data import video
from zoo.invariances import attack as attacks
from zoo.invariances import pictures
from zoo.invariances.analysis import pairwise_distance, statistics
from zoo.invariances.system import Layer, System
from zoo.pictures import grid

Figures = dict[str, float]
GRADIENTS = 16  # images whose gradient is kept at once


def layers(system: System, image: Tensor, path: Path, draws: int, noise: torch.Generator) -> Figures:
    """One image (1, C, H, W): for each cut a row with mean, variance and samples; the variance of each cut."""
    drawn = {
        name: system.samples(layer, system.represent(layer, image), draws, noise)
        for name, layer in system.layers.items()
    }
    found = {name: statistics(samples) for name, samples in drawn.items()}
    highest = max(float(f.variance.mean(1).max()) for f in found.values())
    rows = [[image[0], *pictures.summary(found[name], highest)[0], *samples[:, 0]] for name, samples in drawn.items()]
    columns = ["input", "mean", "variance", *[f"sample {k + 1}" for k in range(draws)]]
    grid(rows, path, rows=list(drawn), columns=columns, title="What each layer does not see")
    return {f"{name}_variance": f.spread for name, f in found.items()}


def samples(
    system: System, name: str, layer: Layer, images: Tensor, path: Path, draws: int, noise: torch.Generator
) -> Figures:
    """A row for each image: input, D(E(x)), mean, variance, samples; their distance, and whether classes are kept.

    Without D(E(x)) where there is no E.
    """
    drawn = system.samples(layer, system.represent(layer, images), draws, noise)
    found, seen = statistics(drawn), _seen(system, images)
    highest = float(found.variance.mean(1).max())
    summaries = pictures.summary(found, highest)
    rows = [[images[i], *seen[i : i + 1], *summaries[i], *drawn[:, i]] for i in range(len(images))]
    columns = ["input", *["D(E(x))"] * bool(len(seen)), "mean", "variance", *[f"sample {k + 1}" for k in range(draws)]]
    grid(rows, path, columns=columns, title=f"Images with the same {name} representation as the input")
    return {"distance": pairwise_distance(drawn), **class_kept(system, images, drawn)}


def _seen(system: System, images: Tensor) -> Tensor:
    """D(E(x)), (B, C, H, W); empty where there is no E."""
    return system.decode(system.mean(images)) if system.autoencoder.encodes else images[:0]


def class_kept(system: System, images: Tensor, drawn: Tensor, name: str = "class_kept") -> Figures:
    """Share of samples (M, N, C, H, W) that the classifier puts into the class in which it sees their image.

    No figure for a network that tells no classes.
    """
    if system.logits is None:
        return {}
    wanted = system.classify(images).repeat(len(drawn))
    return {name: float((system.classify(drawn.flatten(0, 1)) == wanted).float().mean())}


def reconstructions(system: System, chosen: dict[str, Layer], images: Tensor, path: Path) -> Figures:
    """Rows: input, D(E(x)), D(t^-1(t(latent | z) | z)) of each cut; the largest error of the latents' round trip."""
    latents = system.mean(images)
    rows, figures = {"input": images, "D(E(x))": system.decode(latents)}, {}
    for name, layer in chosen.items():
        z = system.represent(layer, images)
        again = system.latents(layer, system.invariances(layer, latents, z), z)
        rows[name] = system.decode(again)
        figures[f"{name}_round_trip"] = float((again - latents).abs().max())
    grid(list(rows.values()), path, rows=list(rows), title="Reconstructions through the flows")
    return figures


def swaps(system: System, name: str, layer: Layer, images: Tensor, path: Path) -> Figures:
    """All recombinations: rows have z of one image, columns v of another; how often the classifier follows z."""
    z = system.represent(layer, images)
    v = system.invariances(layer, system.mean(images), z)
    mixed = torch.stack([system.render(layer, v, one[None]) for one in z])
    corner = torch.ones_like(images[0])
    rows = [[corner, *images], *[[image, *row] for image, row in zip(images, mixed, strict=True)]]
    labels = [f"v ({name} does not see it)", *[f"z {k + 1}" for k in range(len(images))]]
    columns = ["", *[f"v {k + 1}" for k in range(len(images))]]
    grid(rows, path, rows=labels, columns=columns, title=f"What {name} sees (rows) with what it does not (columns)")
    return class_kept(system, images, mixed.transpose(0, 1), "class_of_z")


def mixes(system: System, pair: Tensor, path: Path) -> Figures:
    """Two images (2, C, H, W) and, for each cut, both recombinations: v of one with z of the other."""
    rows = []
    for layer in system.layers.values():
        z = system.represent(layer, pair)
        mixed = system.render(layer, system.invariances(layer, system.mean(pair), z), z.flip(0))
        rows.append([*pair, *mixed])
    columns = ["first", "second", "v of first, z of second", "v of second, z of first"]
    grid(rows, path, rows=list(system.layers), columns=columns, title="Two images recombined")
    return {}


def interpolations(system: System, chosen: dict[str, Layer], pair: Tensor, path: Path, steps: int) -> Figures:
    """From v of the first of two images to v of the second, with z of the first: a row for each cut."""
    rows = []
    for layer in chosen.values():
        z = system.represent(layer, pair)
        first, second = system.invariances(layer, system.mean(pair), z)
        path_of_v = torch.stack([torch.lerp(first, second, k / (steps - 1)) for k in range(steps)])
        rows.append([pair[0], *system.render(layer, path_of_v, z[:1]), pair[1]])
    columns = ["z of this", *[f"v at {k / (steps - 1):.0%}" for k in range(steps)], "v to this"]
    grid(rows, path, rows=list(chosen), columns=columns, title="From one image's invariances to another's")
    return {}


def attack(
    system: System, chosen: dict[str, Layer], examples: tuple[Tensor, Tensor | None], path: Path, epsilon: float,
    shown: int, noise: torch.Generator,
) -> Figures:  # fmt: skip
    """FGSM of images and labels: accuracies; panels of the attack; what each cut sees of the attacked image.

    Without labels there is no accuracy: how many images are still seen as what the network saw in the original.

    Panels of a row: input, attack (amplified), attacked image, D(E(attacked)); then for each cut two samples each for
    z of the input, of the attacked image, and of the random control.
    """
    images, labels = examples
    if system.logits is None:
        raise ValueError("attack: expected a classifier, this network tells no classes that it could be led away from")
    attacked = torch.cat([attacks.fgsm(system.logits, some, epsilon) for some in images.split(GRADIENTS)])
    control = attacks.random_control(images, epsilon)
    seen = {"original": images, "attacked": attacked, "random_control": control}
    classes = {name: system.classify(x) for name, x in seen.items()}
    right = classes["original"] if labels is None else labels
    fooled = (classes["original"] == right) & (classes["attacked"] != right)
    rows, titles = [], []
    for i in [*fooled.nonzero()[:, 0].tolist(), *(~fooled).nonzero()[:, 0].tolist()][:shown]:
        one = attacked[i : i + 1]
        row = [images[i], (attacked[i] - images[i]) / epsilon, attacked[i], *_seen(system, one)]
        for layer in chosen.values():
            for x in (images[i : i + 1], one, control[i : i + 1]):
                row += list(system.samples(layer, system.represent(layer, x), 2, noise)[:, 0])
        rows.append(row)
        titles.append(f"{int(classes['original'][i])}, attacked {int(classes['attacked'][i])}")
    columns = ["input", "attack", "attacked", *["D(E(attacked))"] * system.autoencoder.encodes]
    columns += [f"{name}: {of}" if of else "" for name in chosen for of in ("input", "", "attacked", "", "random", "")]
    grid(rows, path, rows=titles, columns=columns, title=f"What the network sees of an attack of {epsilon}")
    word = "accuracy" if labels is not None else "unchanged"
    shares = {
        f"{word}_{name}": float((found == right).float().mean())
        for name, found in classes.items()
        if found is not right
    }
    followed: Figures = {}
    for name, layer in chosen.items():
        drawn = system.samples(layer, system.represent(layer, attacked), 4, noise)
        followed |= class_kept(system, attacked, drawn, f"{name}_shows_attacked_class")
    return {**shares, **followed}


def texture(system: System, images: Tensor, path: Path, draws: int, noise: torch.Generator) -> Figures:
    """The same images seen by two classifiers with different biases, at one cut of each: a row for each image.

    Figures: for each, the distance of two samples, and the share whose class is that in which the first classifier sees
    the image.

    Raises:
        ValueError: for a system with one classifier.
    """
    if len(system.biases) < 2:
        raise ValueError(
            "texture: expected a system with a second classifier, such as invariances/digits or "
            "invariances/resnet50-avgpool"
        )
    drawn = {
        who: system.samples(layer, system.represent(layer, images), draws, noise)
        for who, layer in system.biases.items()
    }
    beside = torch.cat([*drawn.values()])
    rows = [[image, *beside[:, i]] for i, image in enumerate(images)]
    columns = ["input", *[f"{who} {k + 1}" for who in drawn for k in range(draws)]]
    title = f"One image, seen by two classifiers: {' and '.join(drawn)}"
    grid(rows, path, columns=columns, title=title)
    figures: Figures = {}
    for who, samples in drawn.items():
        figures |= {f"{who}_distance": pairwise_distance(samples)} if draws > 1 else {}
        figures |= class_kept(system, images, samples, f"{who}_class_kept")
    return figures


def edits(system: System, name: str, pairs: tuple[Tensor, Tensor], path: Path) -> Figures:
    """One concept of each image replaced by that of its partner: images, partners, D(E(x)), results.

    Figures: how often the class is kept, or is the partner's; how far pixels move, and the representation (Fig. 7).

    Raises:
        ValueError: for a system without concepts, or an unknown one.
    """
    if system.concepts is None:
        raise ValueError(
            "edit: expected a flow to concepts: that of invariances/digits, or concepts_from=FILE, a file that zoo "
            "train invariances/concepts leaves"
        )
    if name not in system.names:
        raise ValueError(f"concept: expected one of {', '.join(system.names)}, got {name!r}")
    before = system.decode(system.mean(pairs[0]))
    results = system.decode(replace(system, name, *(system.mean(x) for x in pairs)))
    rows = ["image", f"{name} of this", "D(E(image))", "edited"]
    grid([*pairs, before, results], path, rows=rows, title=f"The concept {name}, replaced")
    figures = class_kept(system, pairs[0], results[None]) | class_kept(
        system, pairs[1], results[None], "class_of_partner"
    )
    with torch.no_grad():
        distance = (system.features(results) - system.features(before)).norm(dim=1)
    return figures | {
        "change": float((results - before).square().mean().sqrt()),
        "distance": float(distance.mean()),
        "distance_deviation": float(distance.std(correction=0)),
    }


@torch.no_grad()
def replace(system: System, name: str, latents: Tensor, partners: Tensor) -> Tensor:
    """Latents (B, D) with the concept ``name`` of their partners'."""
    assert system.concepts is not None
    index = list(system.names).index(name)
    *own, _ = system.concepts(latents)
    *other, _ = system.concepts(partners)
    own[index] = other[index]
    edited: Tensor = system.concepts.inverse(*own)[0]
    return edited


def film(system: System, layer: Layer, frames: Tensor, still: Tensor, path: Path, shown: int = 12) -> Figures:
    """Frames (N, C, H, W) translated: v of each frame with z of one still (1, C, H, W); a video and a picture of it."""
    v = system.invariances(layer, system.mean(frames), system.represent(layer, frames))
    translated = system.render(layer, v, system.represent(layer, still))
    video.write(torch.cat([frames, translated], 3), path)
    some = torch.linspace(0, len(frames) - 1, min(shown, len(frames))).round().long()
    rows = [[still[0], *frames[some]], [still[0], *translated[some]]]
    columns = ["still: z", *[f"frame {int(k)}" for k in some]]
    grid(rows, path.with_suffix(".png"), rows=["film: v", "translated"], columns=columns, title="A film in another z")
    return {"frames": float(len(frames))}

"""What can be asked of the invariances: ``python -m zoo VERB invariances/NAME``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from zoo.invariances.asking import of_system, only_defaults, opened, own_cut, say, some_images, two_images, write
from zoo.verbs import Context, at_least_one, verb

if TYPE_CHECKING:
    from torch import Generator

    from zoo.invariances.system import System


@verb
def train(
    context: Context,
    *,
    data: str = "",
    autoencoder: str = "",
    classifier: str = "",
    dequantiser: str = "",
    steps: int = 250_000,
    batch: int = 16,
    every: int = 1000,
    accumulate: int = 1,
    devices: int = 1,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    workers: int = 0,
) -> None:
    """Trains a small system whole (what the folder lacks), or a published flow: that of a cut, or to concepts."""
    given = {key: value for key, value in locals().items() if key not in ("context", "data")}
    from zoo.invariances import opening, runs, training
    from zoo.invariances.experts import Experts
    from zoo.training.fit import Fit

    if opening.small(context.name) is None:
        settings = Fit(
            steps, batch, every, accumulate, precision, devices, seed=context.seed, workers=workers, keep_best=False
        )
        training.train(context, data, dequantiser, settings, Experts(autoencoder, classifier, context.seed))
    else:
        only_defaults(train, context, given)
        runs.train(opening.task(context, data), context, context.console)


@of_system
def encode(
    context: Context, system: System, noise: Generator, *, layer: str = "", first: int = 0, count: int = 8
) -> None:
    """Writes z, the latent, v and the log-det of some images as safetensors."""
    from safetensors.torch import save_file

    images = some_images(system, first, count)
    tensors = {"image": images, "latent": system.mean(images)}
    for name, cut in system.chosen(layer or own_cut(context)).items():
        z = system.represent(cut, images)
        v, logdet = cut.flow(tensors["latent"], z)
        tensors |= {f"{name}.z": z, f"{name}.v": v.detach(), f"{name}.logdet": logdet.detach()}
    context.out.mkdir(parents=True, exist_ok=True)
    file = context.out / "encoded.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in tensors.items())
    context.console.print(f"{file}: {shapes}", highlight=False, soft_wrap=True)


@of_system
def visualize(context: Context, system: System, noise: Generator, *, image: int = 0, draws: int = 8) -> None:
    """Shows what each layer does not see of an image: a row for each, with mean, variance and samples."""
    from zoo.invariances import views

    at_least_one(draws=draws)
    one = some_images(system, image, 1)
    say(context, "visualize", views.layers(system, one, context.out / "visualize.png", draws, noise))


@of_system
def sample(
    context: Context,
    system: System,
    noise: Generator,
    *,
    layer: str = "",
    first: int = 0,
    count: int = 8,
    draws: int = 8,
) -> None:
    """Draws images with the representation of given ones: a row for each."""
    from zoo.invariances import views

    at_least_one(draws=draws)
    images = some_images(system, first, count)
    figures: dict[str, float] = {}
    for name, cut in system.chosen(layer or own_cut(context)).items():
        found = views.samples(system, name, cut, images, context.out / f"sample_{name}.png", draws, noise)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    say(context, "sample", figures)


@of_system
def reconstruct(
    context: Context, system: System, noise: Generator, *, layer: str = "", first: int = 0, count: int = 8
) -> None:
    """Passes images through the autoencoder and through every flow and back."""
    from zoo.invariances import views

    chosen, images = system.chosen(layer or own_cut(context)), some_images(system, first, count)
    say(context, "reconstruct", views.reconstructions(system, chosen, images, context.out / "reconstruct.png"))


@of_system
def swap(
    context: Context, system: System, noise: Generator, *, layer: str = "", first: int = 0, count: int = 6
) -> None:
    """Combines what a layer sees of some images with what it does not see of the others."""
    from zoo.invariances import views

    name = layer or own_cut(context) or [*system.layers][-1]
    images = some_images(system, first, count)
    say(context, "swap", views.swaps(system, name, system.layer(name), images, context.out / "swap.png"))


@of_system
def mix(context: Context, system: System, noise: Generator, *, first: int = 0, second: int = 1) -> None:
    """Recombines two images at every layer: v of one with z of the other."""
    from zoo.invariances import views

    say(context, "mix", views.mixes(system, two_images(system, first, second), context.out / "mix.png"))


@of_system
def interpolate(
    context: Context,
    system: System,
    noise: Generator,
    *,
    layer: str = "",
    first: int = 0,
    second: int = 1,
    steps: int = 7,
) -> None:
    """Goes from one image's invariances to another's, at the representation of the first."""
    from zoo.invariances import views

    if steps < 2:
        raise ValueError(f"steps: expected 2 or more, got {steps}")
    chosen, pair = system.chosen(layer or own_cut(context)), two_images(system, first, second)
    say(context, "interpolate", views.interpolations(system, chosen, pair, context.out / "interpolate.png", steps))


@of_system
def attack(
    context: Context,
    system: System,
    noise: Generator,
    *,
    layer: str = "",
    epsilon: float = 0.02,
    count: int = 128,
    shown: int = 4,
) -> None:
    """Attacks the classifier (FGSM) and shows what its layers see of the attacked images."""
    from zoo.invariances import views

    at_least_one(count=count, shown=shown)
    if epsilon <= 0:
        raise ValueError(f"epsilon: expected more than 0, got {epsilon}")
    chosen = system.chosen(layer or own_cut(context))
    examples = system.images[:count], None if system.labels is None else system.labels[:count]
    figures = views.attack(system, chosen, examples, context.out / "attack.png", epsilon, shown, noise)
    say(context, "attack", {"epsilon": epsilon, **figures})


@verb
def texture(
    context: Context,
    *,
    first: int = 0,
    count: int = 8,
    draws: int = 4,
    data: str = "",
    autoencoder: str = "",
    classifier: str = "",
    rival: str = "",
    rival_classifier: str = "",
) -> None:
    """Shows the same images as two classifiers with different biases see them; ``rival`` is the cut of the other."""
    from zoo.invariances import views
    from zoo.invariances.cuts import RIVALS, Choice

    at_least_one(draws=draws)
    rival = rival or RIVALS.get(context.name, "")
    choice = Choice(data, autoencoder, classifier, rival=rival, rival_classifier=rival_classifier)
    system, noise = opened(context, choice)
    images = some_images(system, first, count)
    say(context, "texture", views.texture(system, images, context.out / "texture.png", draws, noise))


@of_system
def edit(
    context: Context, system: System, noise: Generator, *, concept: str = "", first: int = 0, count: int = 8
) -> None:
    """Replaces one concept of each image, by default the first, by the next image's."""
    from zoo.invariances import views

    images = some_images(system, first, count)
    name = concept or next(iter(system.names), "")
    pairs = images, images.roll(-1, 0)
    say(context, "edit", views.edits(system, name, pairs, context.out / f"edit_{name}.png"))


@of_system
def video(
    context: Context,
    system: System,
    noise: Generator,
    *,
    frames: str = "",
    still: str = "",
    layer: str = "",
    film: str = "video.gif",
) -> None:
    """Translates a film (or a made-up one): v of each frame, z of one still image, which is a file or a number."""
    from zoo.invariances import opening, views

    moving = opening.frames(system, frames)
    one = opening.still(system, still)
    cut = system.layer(layer or own_cut(context))
    say(context, "video", views.film(system, cut, moving, one, context.out / film))


@of_system
def explain(
    context: Context, system: System, noise: Generator, *, draws: int = 10, repeats: int = 5, count: int = 100
) -> None:
    """Tells how much of the variance of the latent and of the concepts each layer explains: table and pictures."""
    from zoo.invariances import evaluation

    at_least_one(draws=draws, repeats=repeats, count=count)
    found = evaluation.explain(system, system.images[:count], draws, repeats, noise)
    evaluation.draw_explanation(found, context.out)
    context.console.print(evaluation.explanation_table(found))
    write(context, "explain", asdict(found))


@of_system
def evaluate(
    context: Context,
    system: System,
    noise: Generator,
    *,
    layer: str = "",
    sets: int = 3,
    features: Literal["classifier", "inception"] = "classifier",
) -> None:
    """Fréchet distance (FID with features=inception) over sets of samples, classes kept, similarity of z."""
    from zoo.invariances import evaluation
    from zoo.metrics.frechet import inception

    if sets < 2:
        raise ValueError(f"sets: expected 2 or more, for a deviation, got {sets}")
    network = inception() if features == "inception" else system.features
    chosen = system.chosen(layer or own_cut(context))
    found = {name: evaluation.measure(system, cut, network, sets, noise) for name, cut in chosen.items()}
    context.console.print(evaluation.measures_table(found))
    write(context, "evaluate", {"features": features, **{name: asdict(f) for name, f in found.items()}})


@verb
def demo(context: Context, *, data: str = "", draws: int = 8, epsilon: float = 0.0) -> None:
    """Trains a small system and shows everything: pictures of all verbs, tables, metrics.json."""
    from zoo.invariances import demo as whole

    whole.run(context, data, draws, epsilon)

"""What Net2Net can be asked to do (arXiv 2005.13580): the verbs of the command line.

``source=`` and ``target=`` name the experts of a published configuration, ``data=`` its pictures; see the README.
"""

from __future__ import annotations

from typing import Literal

from zoo.net2net.cost import FLIPPED
from zoo.verbs import Context, verb


@verb
def demo(context: Context, *, data: str = "", autoencoder_epochs: int = 0, flow_epochs: int = 0) -> None:
    """Trains a whole system on real pictures, measures and draws: net2net/emoji, or net2net/animalfaces data=FOLDER."""
    from zoo.net2net import demo, opening

    demo.run(context, opening.task(context, data, autoencoder_epochs, flow_epochs))


@verb
def train(
    context: Context,
    *,
    source: str = "",
    target: str = "",
    data: str = "",
    steps: int = 0,
    batch: int = 0,
    every: int = 0,
    accumulate: int = 1,
    devices: int = 1,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    workers: int = 0,
    lpips: str = "",
    disc_start: int = -1,
    autoencoder_epochs: int = 0,
    flow_epochs: int = 0,
) -> None:
    """Trains a flow between its experts, a first-stage autoencoder, or a small run whole (by *_epochs)."""
    from zoo.net2net import opening, runs, training
    from zoo.net2net.configurations import AUTOENCODERS, configuration
    from zoo.net2net.words import Given

    named, own = configuration(context.name), context.name.partition("/")[2]
    settings = training.Settings(steps, batch, every, accumulate, devices, precision, workers)
    autoencoder = own in AUTOENCODERS
    if (autoencoder or named) and (autoencoder_epochs or flow_epochs):
        raise ValueError(f"{context.name}: expected steps=, got epochs, which are of the runs on small pictures")
    if not autoencoder and (lpips or disc_start >= 0):
        raise ValueError(f"{context.name}: lpips= and disc_start= are of the first-stage autoencoders")
    if named is None and (source or target):
        raise ValueError(f"{context.name}: source= and target= are of flows between named experts; leave them out")
    if named is None and not autoencoder and opening.run_name(context) and settings != training.Settings():
        raise ValueError(
            f"{context.name}: expected autoencoder_epochs= and flow_epochs=, of the runs on small pictures"
        )
    context.out.mkdir(parents=True, exist_ok=True)
    if named is not None:
        return training.train_flow(context, named, Given(source, target, data), settings)
    if autoencoder:
        return training.train_autoencoder(context, data, settings, lpips, disc_start)
    context.begins_anew()
    runs.train(opening.task(context, data, autoencoder_epochs, flow_epochs), context)


@verb
def train_ae(context: Context, *, data: str = "", autoencoder_epochs: int = 0) -> None:
    """Trains the autoencoder of a small run, expert two, alone."""
    from zoo.net2net import opening, runs

    context.begins_anew()
    context.out.mkdir(parents=True, exist_ok=True)
    runs.train_autoencoder(opening.task(context, data, autoencoder_epochs, 0), context)


@verb
def sample(
    context: Context, *, source: str = "", target: str = "", data: str = "", count: int = 8, samples: int = 6
) -> None:
    """Pictures for held-out conditions: v ~ N(0, 1), tau(v | condition), decoded."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    views.samples(opening.opened(context, Given(source, target, data), count), samples)


@verb
def reconstruct(context: Context, *, source: str = "", target: str = "", data: str = "", count: int = 8) -> None:
    """Held-out pictures through the autoencoder, and through autoencoder and flow and back."""
    from zoo.net2net import opening, views
    from zoo.net2net.configurations import AUTOENCODERS
    from zoo.net2net.words import Given

    if context.name.partition("/")[2] in AUTOENCODERS:
        if source or target:
            raise ValueError(f"{context.name}: an autoencoder is no flow between experts; leave source=, target= out")
        return views.autoencoded(context, *opening.autoencoded(context, data, count))
    views.reconstructions(opening.opened(context, Given(source, target, data), count))


@verb
def swap(
    context: Context, *, source: str = "", target: str = "", data: str = "", count: int = 6, alpha: float = 1.0
) -> None:
    """Exemplar guidance: the v of one picture with the condition of another, mixed with it by alpha."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    views.swaps(opening.opened(context, Given(source, target, data), count), alpha)


@verb
def transfer(context: Context, *, target: str = "", data: str = "", count: int = 6, alpha: float = 1.0) -> None:
    """Unpaired transfer: pictures given every label, mixed with what they are by alpha (flows between domains)."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    views.transfers(opening.opened(context, Given("", target, data), count), alpha)


@verb
def flip(
    context: Context,
    *,
    target: str = "",
    data: str = "",
    attributes: str = ",".join(FLIPPED.values()),
    count: int = 6,
    alpha: float = 1.0,
) -> None:
    """Attribute modification: pictures with one attribute of CelebA after the other turned over (attributes-celeba)."""
    from zoo.net2net import opening, views
    from zoo.net2net.configurations import configuration
    from zoo.net2net.words import Given

    named = configuration(context.name)
    if named is None or named.kind != "attributes":
        raise ValueError(f"flip: {context.name} is not conditioned on attributes; expected net2net/attributes-celeba")
    views.flips(opening.opened(context, Given("", target, data), count), attributes.split(","), alpha)


@verb
def video(
    context: Context,
    *,
    target: str = "",
    data: str = "",
    frames: str = "",
    domain: int = 0,
    label: int = 1,
    steps: int = 125,
    film: str = "transfer.gif",
) -> None:
    """A film (frames=) of one domain shown in another, or a held-out picture that turns into its transfer."""
    from zoo.data.video import read
    from zoo.net2net import opening, views
    from zoo.net2net.configurations import configuration
    from zoo.net2net.words import Given

    named = configuration(context.name)
    count = None if frames else max(2, named.domains) if named else 1
    opened = opening.opened(context, Given("", target, data), count)
    views.film(opened, read(frames, opened.size) if frames else None, domain, label, steps, film)


@verb
def sample_all_labels(context: Context, *, target: str = "", count: int = 6) -> None:
    """The same v given every label (flows between domains)."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    views.all_labels(opening.opened(context, Given("", target), None), count)


@verb
def interpolate(
    context: Context, *, source: str = "", target: str = "", data: str = "", count: int = 6, steps: int = 8
) -> None:
    """From one condition to the next with the same v."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    views.interpolations(opening.opened(context, Given(source, target, data), count), steps)


@verb
def diagnose(context: Context, *, source: str = "", target: str = "", data: str = "", samples: int = 6) -> None:
    """Samples for conditions that say less and less of a held-out picture, or for layers: what the flow fills in."""
    from zoo.net2net import opening, views
    from zoo.net2net.configurations import configuration
    from zoo.net2net.words import Given

    named = configuration(context.name)
    if named is not None and named.kind in ("layer", "hole", "classes"):
        return views.layers(opening.layers(context, Given(source, target, data)), samples)
    views.diagnosis(opening.opened(context, Given(source, target, data), 1), samples)


@verb
def text2img(
    context: Context, *, source: str = "", target: str = "", prompt: str = "red car; blue heart; cat", samples: int = 6
) -> None:
    """Pictures for prompts, separated by semicolons."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    texts = [part.strip() for part in prompt.split(";") if part.strip()]
    views.prompts(opening.opened(context, Given(source, target), None), texts, samples)


@verb
def superres(
    context: Context, *, source: str = "", target: str = "", data: str = "", count: int = 8, samples: int = 6
) -> None:
    """Large pictures for small ones."""
    from zoo.net2net import opening, views
    from zoo.net2net.words import Given

    opened = opening.opened(context, Given(source, target, data), count)
    if opened.low is None:
        raise ValueError(f"superres: {context.name} is not conditioned on small pictures")
    views.samples(opened, samples)


@verb
def evaluate(
    context: Context,
    *,
    source: str = "",
    target: str = "",
    data: str = "",
    count: int = 0,
    features: Literal["own", "inception"] = "own",
) -> None:
    """Code length, reconstruction, Frechet distances and more on held-out pictures, beside the paper's tables."""
    from zoo.net2net import evaluation
    from zoo.net2net.configurations import AUTOENCODERS, configuration
    from zoo.net2net.words import Given

    if configuration(context.name) is not None:
        return evaluation.released(context, Given(source, target, data), count, features)
    if source or target:
        raise ValueError(f"{context.name}: its experts are those of the run; leave source= and target= out")
    if context.name.partition("/")[2] in AUTOENCODERS:
        return evaluation.autoencoder(context, data, count, features)
    if count:
        raise ValueError(f"{context.name}: all held-out pictures of a small run are measured; leave count= out")
    evaluation.run(context, data, features)

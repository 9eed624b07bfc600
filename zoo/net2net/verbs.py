"""What Net2Net can be asked to do (arXiv 2005.13580): the verbs of the command line."""

from __future__ import annotations

from typing import Literal

from zoo.verbs import Context, verb


@verb
def demo(context: Context, *, data: str = "", autoencoder_epochs: int = 0, flow_epochs: int = 0) -> None:
    """Trains a whole system on real pictures, measures and draws: net2net/emoji, or net2net/animalfaces data=FOLDER."""
    from zoo.net2net import demo, opening

    demo.run(context, opening.task(context, data, autoencoder_epochs, flow_epochs))


@verb
def train(
    context: Context, *, data: str = "", autoencoder_epochs: int = 0, flow_epochs: int = 0, steps: int = 0
) -> None:
    """Trains autoencoder and flow between the experts (a published configuration: steps=, on synthetic data)."""
    from zoo.net2net import opening, released, runs

    if released.known(context.name):
        if data or autoencoder_epochs or flow_epochs:
            raise ValueError(f"{context.name}: expected steps=, got options of the runs on real pictures")
        return released.train(context, steps or 2)
    if steps:
        raise ValueError(f"{context.name}: expected autoencoder_epochs= and flow_epochs=, got steps={steps}")
    context.out.mkdir(parents=True, exist_ok=True)
    runs.train(opening.task(context, data, autoencoder_epochs, flow_epochs), context)


@verb
def train_ae(context: Context, *, data: str = "", autoencoder_epochs: int = 0) -> None:
    """Trains the autoencoder, expert two, alone."""
    from zoo.net2net import opening, runs

    context.out.mkdir(parents=True, exist_ok=True)
    runs.train_autoencoder(opening.task(context, data, autoencoder_epochs, 0), context)


@verb
def sample(context: Context, *, data: str = "", count: int = 8, samples: int = 6) -> None:
    """Pictures for held-out conditions: v ~ N(0, 1), tau(v | condition), decoded."""
    from zoo.net2net import opening, released, views

    if released.known(context.name):
        return released.sample(context, count, samples)
    views.samples(opening.opened(context, data, count), samples)


@verb
def reconstruct(context: Context, *, data: str = "", count: int = 8) -> None:
    """Held-out pictures through the autoencoder, and through autoencoder and flow and back."""
    from zoo.net2net import opening, released, views

    if released.known(context.name):
        return released.reconstruct(context, count)
    views.reconstructions(opening.opened(context, data, count))


@verb
def swap(context: Context, *, data: str = "", count: int = 6, alpha: float = 1.0) -> None:
    """Exemplar guidance: the v of one picture with the condition of another, mixed with it by alpha."""
    from zoo.net2net import opening, released, views

    if released.known(context.name):
        return released.swap(context, count, alpha)
    views.swaps(opening.opened(context, data, count), alpha)


@verb
def transfer(context: Context, *, count: int = 6, alpha: float = 1.0) -> None:
    """Unpaired transfer: pictures given every label, mixed with what they are by alpha (flows between domains)."""
    from zoo.net2net import released

    released.transfer(context, count, alpha)


@verb
def sample_all_labels(context: Context, *, count: int = 6) -> None:
    """The same v given every label (flows between domains)."""
    from zoo.net2net import released

    released.sample_all_labels(context, count)


@verb
def diagnose(context: Context, *, data: str = "", samples: int = 6) -> None:
    """Samples for conditions that say less and less of a held-out picture: what the flow has to fill in."""
    from zoo.net2net import opening, views

    views.diagnosis(opening.opened(context, data, 1), samples)


@verb
def interpolate(context: Context, *, data: str = "", count: int = 6, steps: int = 8) -> None:
    """From one condition to the next with the same v."""
    from zoo.net2net import opening, views

    views.interpolations(opening.opened(context, data, count), steps)


@verb
def text2img(context: Context, *, prompt: str = "red car; blue heart; cat", samples: int = 6) -> None:
    """Pictures for prompts, separated by semicolons."""
    from zoo.net2net import opening, views

    views.prompts(opening.opened(context, "", 2), [part.strip() for part in prompt.split(";") if part.strip()], samples)


@verb
def superres(context: Context, *, data: str = "", count: int = 8, samples: int = 6) -> None:
    """Large pictures for small ones (net2net/animalfaces, net2net/tiny-pictures)."""
    from zoo.net2net import opening, views

    opened = opening.opened(context, data, count)
    if opened.labels:
        raise ValueError(f"superres: {context.name} is conditioned on texts, not on small pictures; use text2img")
    views.samples(opened, samples)


@verb
def evaluate(context: Context, *, data: str = "", features: Literal["own", "inception"] = "own") -> None:
    """Code length, reconstruction, retrieval, Frechet distance of what was trained, beside the paper's tables."""
    from zoo.net2net import demo, opening, tables

    task, system = opening.task(context, data, 0, 0), opening.system(context)
    measured = tables.distance(system, task, context.seed, features)
    figures = {**demo.measure(system, task, context.seed), f"frechet_{features}": measured}
    demo.show(context, figures, "evaluate.json")
    tables.show(context.console, context.name, measured, features, bool(task.parts["test"].texts))

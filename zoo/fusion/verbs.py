"""What Network Fusion can be asked to do: the verbs of the command line.

Experts are files: ``biggan=`` and ``dequantiser=`` (ours or the authors', the published ones by default), for sentences
``captioner=`` and ``words=`` (the published ones by default) and ``bert=FOLDER``, for sketches ``resnet=``.
"""

from __future__ import annotations

from typing import Literal

from zoo.verbs import Context, verb


@verb
def train(
    context: Context,
    *,
    steps: int = 200,
    batch: int = 16,
    every: int = 50,
    learning_rate: float = 0.0,
    validation: int = 64,
    accumulate: int = 1,
    devices: int = 1,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    workers: int = 0,
    captioner: str = "",
    words: str = "",
    bert: str = "",
    resnet: str = "",
    biggan: str = "",
    dequantiser: str = "",
) -> None:
    """Trains the flow on samples of the BigGAN and their descriptions, or a dequantiser; goes on when interrupted."""
    from zoo.fusion.experts import Files
    from zoo.fusion.training import Plan
    from zoo.fusion.training import train as run
    from zoo.training.fit import Fit

    context.begins_anew()
    settings = Fit(steps, batch, min(every, steps), accumulate, precision, devices, seed=context.seed, workers=workers)
    files = Files(biggan, dequantiser, captioner, words, bert, resnet)
    run(context, files, Plan(learning_rate, validation), settings)


@verb
def demo(context: Context) -> None:
    """Trains fusion/tiny (a random BigGAN, a stand-in for captioner and BERT), draws samples, measures."""
    from zoo.fusion import running

    running.demo(context)


@verb
def sample(
    context: Context,
    *,
    count: int = 4,
    samples: int = 4,
    captioner: str = "",
    words: str = "",
    bert: str = "",
    resnet: str = "",
    biggan: str = "",
) -> None:
    """Held-out images of the BigGAN are described; pictures for these descriptions."""
    from zoo.fusion import running
    from zoo.fusion.experts import Files

    files = Files(biggan, captioner=captioner, words=words, bert=bert, resnet=resnet)
    running.sample(context, files, count, samples)


@verb
def text2img(
    context: Context, *, prompt: str = "a dog on grass; a red car", samples: int = 4, bert: str = "", biggan: str = ""
) -> None:
    """Pictures for prompts, separated by semicolons (bert-to-biggan256, tiny)."""
    from zoo.fusion import running
    from zoo.fusion.experts import Files

    prompts = [part.strip() for part in prompt.split(";") if part.strip()]
    running.text2img(context, Files(biggan, bert=bert), prompts, samples)


@verb
def sketch2img(context: Context, *, sketch: str = "", samples: int = 4, resnet: str = "", biggan: str = "") -> None:
    """Pictures for a sketch, an image file (sketch-to-biggan, tiny); resnet=FILE, the stylised ResNet-50 or another."""
    from zoo.fusion import running
    from zoo.fusion.experts import Files

    running.sketch2img(context, Files(biggan, resnet=resnet), sketch, samples)


@verb
def evaluate(
    context: Context,
    *,
    count: int = 40,
    samples: int = 2,
    captioner: str = "",
    words: str = "",
    bert: str = "",
    resnet: str = "",
    biggan: str = "",
    dequantiser: str = "",
) -> None:
    """Whether pictures are described as they were asked for: cosines, retrieval, likelihood; figures and a curve."""
    from zoo.fusion import running
    from zoo.fusion.experts import Files

    files = Files(biggan, dequantiser, captioner, words, bert, resnet)
    running.evaluate(context, files, count, samples)

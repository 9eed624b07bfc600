"""What Network Fusion can be asked to do: the verbs of the command line."""

from __future__ import annotations

from zoo.verbs import Context, verb


@verb
def train(context: Context, *, steps: int = 20, batch: int = 16, learning_rate: float = 7.2e-5, captioner: str = "",
          words: str = "", bert: str = "", resnet: str = "") -> None:  # fmt: skip
    """Trains the flow on samples of the BigGAN and their descriptions; files of the experts, or --random ones."""
    from zoo.fusion import running

    running.train(context, running.Files(captioner, words, bert, resnet), steps, batch, learning_rate)


@verb
def sample(context: Context, *, count: int = 4, samples: int = 4, captioner: str = "", words: str = "", bert: str = "",
           resnet: str = "") -> None:  # fmt: skip
    """Images of the BigGAN are described; pictures for these descriptions."""
    from zoo.fusion import running

    running.sample(context, running.Files(captioner, words, bert, resnet), count, samples)


@verb
def text2img(context: Context, *, prompt: str = "a dog on grass; a red car", samples: int = 4, bert: str = "") -> None:
    """Pictures for prompts, separated by semicolons (bert-to-biggan256, tiny)."""
    from zoo.fusion import running

    running.text2img(context, bert, [part.strip() for part in prompt.split(";") if part.strip()], samples)


@verb
def sketch2img(context: Context, *, sketch: str = "", samples: int = 4, resnet: str = "") -> None:
    """Pictures for a sketch, an image file (sketch-to-biggan, tiny); resnet=FILE, the stylised ResNet-50 or another."""
    from zoo.fusion import running

    running.sketch2img(context, resnet, sketch, samples)

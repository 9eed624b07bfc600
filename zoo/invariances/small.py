"""Small classifiers, autoencoders and flows with which the invariances run on a laptop, as graphs."""

from __future__ import annotations

from flowkit import graph as g
from zoo.invariances.graph import cinn, concepts
from zoo.registry import register
from zoo.runs import networks as runs

CELLS = 4  # pixels of a side where the classifier's convolutions end
CUTS = ("conv", "dense", "logits")
"""Where the small classifiers are cut, from the image to the decision."""
CONCEPTS = ("digit", "ink", "paper", "residual")
SIZES = "10,4,4,14"
DIGITS, FACES = {"size": 16, "width": 16}, {"size": 64, "width": 16}
DIGITS_LATENT, FACES_LATENT, DENSE, CLASSES = 32, 64, 64, 10


@register({"digits": DIGITS, "digits-biased": DIGITS, "animalfaces": FACES})
def classifier(
    size: int = 16, width: int = 16, dense: int = DENSE, classes: int = CLASSES, dropout: float = 0.3
) -> g.Graph:
    """Image (3, S, S) in [-1, 1] -> its representations "conv" (W, S/2, S/2), "dense" and "logits".

    Arguments:
        size: S, 4 times a power of two.
        width: W; every further halving doubles the channels.
    """
    image = g.input("image", (3, size, size))
    x = _down(image, width, "conv")
    early = x
    for level in range(1, _levels(size)):
        x = _down(x, min(width * 2**level, 4 * width), f"conv_{level}")
    x = g.dropout(g.flatten(x), dropout, name="dropout")
    known = g.activation(g.linear(x, dense, name="dense"), name="dense_relu")
    logits = g.linear(g.dropout(known, dropout, name="dropout_dense"), classes, name="head")
    return g.graph(conv=early, dense=known, logits=logits)


@register(
    {
        "digits-autoencoder": {"size": 16, "latent": DIGITS_LATENT, "width": 24},
        "animalfaces-autoencoder": {"size": 64, "latent": FACES_LATENT, "width": 24},
    }
)
def autoencoder(size: int = 16, latent: int = DIGITS_LATENT, width: int = 24) -> g.Graph:
    """Image (3, S, S) and noise (D,) -> latent, mean, deviation, and the reconstruction in [-1, 1]."""
    return runs.autoencoder(size, latent, width)


register(
    {
        f"{run}-{cut}": {
            "dim": latent, "depth": depth, "hidden": hidden, "embedder_depth": 3, "layers": 1,
            **({"condition": model["width"], "size": model["size"] // 2, "down": down} if cut == "conv" else
               {"condition": DENSE if cut.endswith("dense") else CLASSES}),
        }
        for run, model, latent, down, depth, hidden, cuts in (
            ("digits", DIGITS, DIGITS_LATENT, 1, 5, 128, (*CUTS, "biased-dense")),
            ("animalfaces", FACES, FACES_LATENT, 3, 6, 192, CUTS),
        )
        for cut in cuts
    }
)(cinn)  # fmt: skip
register(
    {
        "digits-concepts": {
            "dim": DIGITS_LATENT, "concepts": ",".join(CONCEPTS), "sizes": SIZES,
            "depth": 6, "hidden": 128, "layers": 1,
        }
    }
)(concepts)  # fmt: skip


def _levels(size: int) -> int:
    """How often an image is halved; ValueError for a side that is not 4 times a power of two, 8 or more."""
    levels = (size // CELLS).bit_length() - 1
    if levels < 1 or size != CELLS * 2**levels:
        raise ValueError(f"size: expected 8, 16, 32 or another {CELLS} * 2^k, got {size}")
    return levels


def _down(x: g.Value, channels: int, name: str) -> g.Value:
    x = g.conv2d(x, channels, kernel=4, stride=2, padding=1, bias=False, name=name)
    return _normed(x, name)


def _normed(x: g.Value, name: str) -> g.Value:
    return g.activation(g.norm(x, "batch", name=f"{name}_norm"), "leaky_relu", slope=0.1, name=f"{name}_relu")

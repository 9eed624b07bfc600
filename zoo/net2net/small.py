"""Net2Net on a laptop: the autoencoders and flows of the runs on emoji and on animal faces, as graphs."""

from __future__ import annotations

from flowkit import graph as g
from zoo.net2net.graph import translator
from zoo.registry import register
from zoo.runs import networks as runs

SENTENCE = 384  # numbers of a sentence embedding of all-MiniLM-L6-v2
LOW = 16  # pixels of a side of the condition of super-resolution


@register(
    {
        "emoji-autoencoder": {"size": 32, "latent": 64, "width": 32},
        "animalfaces-autoencoder": {"size": 64, "latent": 96, "width": 24},
        "tiny-pictures-autoencoder": {"size": 16, "latent": 8, "width": 4},
    }
)
def autoencoder(size: int = 32, latent: int = 64, width: int = 32) -> g.Graph:
    """Expert two of the runs: image (3, S, S) and noise (D,) -> latent, mean, deviation, reconstruction."""
    return runs.autoencoder(size, latent, width)


register(
    {
        "emoji": {"dim": 64, "condition": SENTENCE, "embedding": 64, "depth": 6, "hidden": 64, "layers": 1},
        "tiny-pictures": {"dim": 8, "condition": 3 * LOW * LOW, "embedding": 8, "depth": 2, "hidden": 16},
        "animalfaces": {"dim": 96, "condition": 3 * LOW * LOW, "embedding": 96, "depth": 6, "hidden": 64, "layers": 1},
    }
)(translator)

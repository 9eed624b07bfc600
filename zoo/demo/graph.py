"""The demo's three networks as graphs: two experts on 8x8 digits and the conditional flow between them."""

from flowkit import graph as g
from zoo.registry import register

SIZE, CLASSES = 8, 10


@register({"classifier": {}, "classifier_small": {"width": 8, "representation": 16}})
def classifier(width: int = 32, representation: int = 32, dropout: float = 0.3) -> g.Graph:
    """Expert 1: image (1, 8, 8) in [-1, 1] -> penultimate representation, and logits of the ten digits."""
    image = g.input("image", (1, SIZE, SIZE))
    x = image
    for number, channels in enumerate((width, width, 2 * width)):
        x = g.activation(g.conv2d(x, channels, name=f"conv_{number}"))
        if number == 1:
            x = g.pool(x, "max")
    x = g.dropout(g.flatten(x), dropout)
    known = g.activation(g.linear(x, representation), name="representation")
    logits = g.linear(g.dropout(known, dropout), CLASSES, name="head")
    return g.graph(representation=known, logits=logits)


@register({"autoencoder": {}, "autoencoder_small": {"width": 8, "latent": 8}})
def autoencoder(width: int = 32, latent: int = 16, hidden: int = 128) -> g.Graph:
    """Expert 2: image (1, 8, 8) and noise -> latent = mean + deviation * noise, and the reconstruction in [-1, 1]."""
    image, noise = g.input("image", (1, SIZE, SIZE)), g.input("noise", latent)
    mean, deviation = g.call(_encoder(width, latent, hidden), image, name="encoder")
    code = mean + deviation * noise
    reconstruction = g.call(_decoder(width, latent, hidden), code, name="decoder")
    return g.graph(latent=code, mean=mean, deviation=deviation, reconstruction=reconstruction)


@register({"translator": {}, "translator_small": {"dim": 8, "condition": 16, "depth": 2, "hidden": 16}})
def translator(
    dim: int = 16, condition: int = 32, depth: int = 6, hidden: int = 128, layers: int = 1, embedding: int = 32
) -> g.Graph:
    """The conditional INN (arXiv 2005.13580): expert 2's latent <-> z ~ N(0, 1), given expert 1's representation."""
    x, known = g.input("x", dim), g.input("condition", condition)
    embedded = g.mlp(known, embedding, hidden=hidden, depth=0, activation="silu", name="embedder")
    net = g.nets.mlp(hidden=hidden, depth=layers, activation="silu", zero_last=True)

    def step(x: g.Value, e: g.Value) -> g.Value:
        x = g.actnorm(x)
        x = g.affine_coupling(x, condition=e, net=net, clamp="tanh", permutation="swap", name="first_half")
        x = g.affine_coupling(x, condition=e, net=net, clamp="tanh", permutation="swap", name="second_half")
        shuffled: g.Value = g.shuffle(x)
        return shuffled

    return g.graph(z=g.repeat(step, x, embedded, times=depth, name="flow"))


def _encoder(width: int, latent: int, hidden: int) -> g.Graph:
    x = g.input("image", (1, SIZE, SIZE))
    x = g.activation(g.conv2d(x, width), "silu")
    x = g.activation(g.conv2d(x, 2 * width, stride=2), "silu")
    x = g.mlp(g.flatten(x), 2 * latent, hidden=hidden, depth=0, activation="silu", name="posterior")
    mean, spread = g.chunk(x)
    return g.graph(mean=mean, deviation=g.activation(spread, "softplus", name="deviation"))


def _decoder(width: int, latent: int, hidden: int) -> g.Graph:
    code = g.input("latent", latent)
    side = SIZE // 2
    x = g.mlp(code, 2 * width * side * side, hidden=hidden, depth=0, activation="silu", name="unfold")
    x = g.reshape(g.activation(x, "silu"), (2 * width, side, side))
    x = g.activation(g.conv2d(g.upsample(x), width), "silu")
    return g.graph(image=g.activation(g.conv2d(x, 1, name="paint"), "tanh"))

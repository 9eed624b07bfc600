"""Expert two of the runs on real pictures as a graph: a small variational autoencoder of RGB images."""

from __future__ import annotations

from flowkit import graph as g

CELLS = 4  # pixels of a side where the encoder ends and the decoder begins
COARSE = 16  # pixels of a side of the picture that a linear map reads and paints beside the convolutions


def autoencoder(size: int, latent: int, width: int) -> g.Graph:
    """Image (3, S, S) in [-1, 1] and noise (D,) -> latent = mean + deviation * noise, and the reconstruction.

    Convolutions 4 x 4 with stride 2 down to 4 x 4 pixels and transposed ones back, as in Net2Net's BasicAE
    (arXiv 2005.13580), with batch norm and a residual block a level. Beside them a linear map each way between the
    latent and the picture at 16 x 16 pixels, so that what principal components keep, colours above all, is learnt in
    the first hundred steps.

    Arguments:
        size: of a side, 4 times a power of two.
        width: channels of the first level; each further one has twice as many.

    Raises:
        ValueError: for another size.
    """
    levels = (size // CELLS).bit_length() - 1
    if size != CELLS * 2**levels or not levels:
        raise ValueError(f"size: expected 16, 32, 64 or another {CELLS} * 2^k, got {size}")
    widths = [width * 2**level for level in range(levels)]
    image, noise = g.input("image", (3, size, size)), g.input("noise", latent)
    mean, deviation = g.call(_encoder(size, latent, widths), image, name="encoder")
    code = mean + deviation * noise
    reconstruction = g.call(_decoder(latent, widths), code, name="decoder")
    return g.graph(latent=code, mean=mean, deviation=deviation, reconstruction=reconstruction)


def _encoder(size: int, latent: int, widths: list[int]) -> g.Graph:
    image = g.input("image", (3, size, size))
    x = image
    for level, channels in enumerate(widths):
        x = g.conv2d(x, channels, kernel=4, stride=2, padding=1, bias=False, name=f"down_{level}")
        x = _block(x, f"block_{level}") if level else _normed(x, f"start_{level}")
    mean, deviation = g.chunk(g.linear(g.flatten(x), 2 * latent, name="posterior"))
    coarse = g.pool(image, kernel=size // COARSE, name="coarse") if size > COARSE else image
    mean = mean + g.linear(g.flatten(coarse), latent, bias=False, name="linear")
    return g.graph(mean=mean, deviation=g.activation(deviation, "softplus", name="deviation"))


def _decoder(latent: int, widths: list[int]) -> g.Graph:
    code, size = g.input("latent", latent), CELLS * 2 ** len(widths)
    x = g.linear(code, widths[-1] * CELLS * CELLS, name="unfold")
    x = _block(g.reshape(x, (widths[-1], CELLS, CELLS)), "block")
    for level, channels in reversed([*enumerate(widths[:-1])]):
        x = g.conv_transpose(x, channels, bias=False, name=f"up_{level}")
        x = _block(x, f"block_{level}") if level else _normed(x, f"end_{level}")
    coarse = g.reshape(g.linear(code, 3 * COARSE * COARSE, name="linear"), (3, COARSE, COARSE))
    coarse = g.upsample(coarse, size // COARSE, "linear", name="coarse") if size > COARSE else coarse
    return g.graph(image=g.activation(g.conv_transpose(x, 3, name="paint") + coarse, "tanh", name="image"))


def _block(x: g.Value, name: str) -> g.Value:
    """Norm and activation, then a 3 x 3 convolution whose result is added, normed and activated."""
    x = _normed(x, f"{name}_in")
    return _normed(g.conv2d(x, x.channels, bias=False, name=f"{name}_conv") + x, f"{name}_out")


def _normed(x: g.Value, name: str) -> g.Value:
    return g.activation(g.norm(x, "batch", name=f"{name}_norm"), "leaky_relu", slope=0.1, name=name)

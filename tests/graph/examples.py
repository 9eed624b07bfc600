"""Graphs that the tests of flowkit.graph share, and a hypothesis strategy that builds random ones."""

from __future__ import annotations

from hypothesis import strategies as st

from flowkit import graph as g


def translator(dim: int = 8, cond: int = 5, depth: int = 2, hidden: int = 16) -> g.Graph:
    """A conditional flow on vectors: an embedder of the condition beside a repeated step."""
    x, c = g.input("x", dim), g.input("condition", cond)
    e = g.mlp(c, out=dim, hidden=[8], name="embedder")

    def step(x: g.Value, e: g.Value) -> g.Value:
        x = g.affine_coupling(g.actnorm(x), condition=e, net=g.nets.mlp(hidden=hidden, depth=1), permutation="swap")
        return g.shuffle(g.affine_coupling(x, condition=e, net=g.nets.mlp(hidden=hidden, depth=1)))

    return g.graph(z=g.repeat(step, x, e, times=depth, name="flow"))


def multiscale() -> g.Graph:
    """Two inputs (an image and a vector), two latents, one of them conditioned on the other by a convolution."""
    image, vector = g.input("image", (2, 4, 4)), g.input("vector", 4)
    kept, leaving = g.split(g.invertible_conv1x1(g.squeeze(image), parameterization="lu"))
    context = g.activation(g.conv2d(kept, 3, name="look"), "tanh")
    leaving = g.affine_coupling(leaving, condition=context, net=g.nets.convnet(hidden=4), name="outer")
    joined = g.concat(g.flatten(kept), vector)
    joined = g.affine_coupling(g.flip(joined), net=g.nets.mlp(hidden=8), name="inner")
    return g.graph(early=leaving, late=g.leaky_relu(joined, slope=0.5))


def unet(size: int | None = 16) -> g.Graph:
    """Not invertible: skips, residuals, two outputs."""
    x = g.input("image", (3, size, size))
    h = g.conv2d(x, 4)
    skip = g.residual(lambda v: g.conv2d(g.activation(v, "elu"), 4), h, name="block")
    h = g.norm(g.conv2d(skip, 8, stride=2), "group", 4)
    mean = g.linear(g.global_pool(h), 6, name="to_mean")
    up = g.concat(g.upsample(h, mode="linear"), skip)
    return g.graph(out=g.conv2d(g.dropout(up, 0.1), 3, name="to_image"), mean=mean)


EXAMPLES = {"translator": translator, "multiscale": multiscale, "unet": unet}


@st.composite
def flows(draw: st.DrawFn) -> g.Graph:
    """A random invertible graph on 4 or 6 channels and 0 to 2 spatial dimensions: conditioned, repeated, split."""
    rank = draw(st.integers(0, 2))
    x = g.input("x", (draw(st.sampled_from([4, 6])), *[4] * rank))
    condition = g.input("c", draw(st.integers(1, 3))) if draw(st.booleans()) else None
    value, parts = x, []
    if condition is not None:
        value = g.affine_coupling(value, condition=condition, net=g.nets.mlp(hidden=5, depth=0), name="first")
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["layer", "repeat", "split", "call"]))
        if kind == "split" and value.channels > 2:
            value, leaving = g.split(value, [2, value.channels - 2])
            parts.append(leaving)
        elif kind == "repeat":
            value = g.repeat(lambda v: _layer(draw, v), value, times=draw(st.integers(1, 3)))
        elif kind == "call":
            inner = g.input("inner", value.shape)
            value = g.call(g.graph(result=_layer(draw, inner)), value)
        else:
            value = _layer(draw, value)
    if value is x:
        value = g.flip(value)
    return g.graph(z=value, **{f"part_{i}": part for i, part in enumerate(parts)})


def _layer(draw: st.DrawFn, x: g.Value) -> g.Value:
    kind = draw(st.sampled_from(["actnorm", "linear", "coupling", "additive", "permutation", "leaky", "shuffle"]))
    if kind == "linear":
        return g.invertible_linear(x, parameterization=draw(st.sampled_from(["dense", "lu", "qr"])))
    if kind == "coupling":
        clamp, bound = draw(st.sampled_from([("tanh", 0.5), ("atan", None), ("sigmoid", 0.1)]))
        net = g.nets.mlp(hidden=draw(st.integers(2, 6)), depth=0, activation="tanh")
        split = draw(st.integers(1, x.channels - 1))
        return g.affine_coupling(x, net=net, clamp=clamp, bound=bound, split=split)
    if kind == "permutation":
        return g.permutation(x, draw(st.permutations(range(x.channels))))
    if kind == "additive":
        return g.additive_coupling(x, net=g.nets.mlp(hidden=3, depth=1), transform_first=draw(st.booleans()))
    return {"actnorm": g.actnorm, "shuffle": g.shuffle, "leaky": lambda v: g.leaky_relu(v, 0.7)}[kind](x)

"""The flat conditional flow that Net2Net, the invariances and the IIN share, as graphs, with its authors' key names.

A block is actnorm, an activation (none in all published models), two affine half-couplings and a shuffle
(arXiv 2005.13580, 2008.01777, 2004.13166). The halves leave a block swapped; each half-coupling has a scale network,
which ends in a tanh, and a shift network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from flowkit import graph as g
from zoo.blocks import kinds as _kinds  # noqa: F401  registers the zoo's own kinds
from zoo.layouts import CHANNELS, CONV1X1, FLAG, Rule

Activation = Literal["none", "lrelu"]
Conditioning = Literal["none", "sequential"]
Norm = Literal["none", "batch", "actnorm"]
NORM = (
    Rule(r"shift", r"loc", CHANNELS),
    Rule(r"scale", r"scale", CHANNELS),
    Rule(r"initialized", r"initialized", FLAG),
)
"""An actnorm below its own name."""


def block(
    x: g.Value,
    h: g.Value | None,
    hidden: int,
    depth: int,
    activation: Activation = "none",
    exact_logdet: bool = True,
    exact_inverse: bool = True,
    coupling_only: bool = False,
) -> g.Value:
    """One block on x (C,), given an embedding h (E,) or nothing.

    Arguments:
        hidden, depth: width of the conditioner networks and how many hidden-to-hidden layers they have.
        activation: "lrelu" is x where x >= 0 and 0.9 x elsewhere.
        exact_logdet: False reports a log-det of 0 for the activation, as the authors' code does.
        exact_inverse: see :func:`double_coupling`.
        coupling_only: without actnorm, activation and shuffle: the authors' pure affine block.
    """
    if coupling_only:
        return double_coupling(x, h, hidden, depth, exact_inverse)
    x = g.actnorm(x, log_scale=False, name="norm")
    if activation == "lrelu":
        x = (g.leaky_relu if exact_logdet else g.legacy_leaky_relu)(x, name="activation")
    return g.shuffle(double_coupling(x, h, hidden, depth, exact_inverse), name="shuffle")


def double_coupling(x: g.Value, h: g.Value | None, hidden: int, depth: int, exact_inverse: bool = True) -> g.Value:
    """Two half-couplings, "first" and "second": [a, b] -> [b', a'] with b' = b exp(s0(a)) + t0(a) and so on.

    With an odd number of channels the larger half comes first in both, as in the authors' forward pass.

    Arguments:
        exact_inverse: False cuts the halves of an odd number of channels where the authors' reverse pass cuts them,
            which does not undo the forward pass; even numbers are the same either way.
    """
    nets = tuple(g.nets.mlp(hidden=hidden, depth=depth, tanh_last=tanh) for tanh in (True, False))
    half = (x.channels + 1) // 2
    swapped = "swap" if x.channels % 2 == 0 else None
    x = g.affine_coupling(x, condition=h, net=nets, clamp="none", split=half, permutation=swapped, name="first")
    x = x if swapped else (g.swap if exact_inverse else g.legacy_swap)(x, split=half, name="swap")
    second: g.Value = g.affine_coupling(x, condition=h, net=nets, clamp="none", split=half, name="second")
    return second


def flow(
    x: g.Value,
    h: g.Value | None,
    *,
    depth: int,
    hidden: int,
    layers: int,
    activation: Activation = "none",
    exact_logdet: bool = True,
    exact_inverse: bool = True,
    conditioning: Conditioning = "none",
    coupling_only: bool = False,
) -> g.Value:
    """``depth`` blocks, the node "flow" (or, with "sequential" conditioning, the nodes "block_0", "block_1" ...).

    Arguments:
        layers: hidden-to-hidden layers of a conditioner network, 2 in all published models.
        activation, exact_logdet, exact_inverse, coupling_only: as in :func:`block`.
        conditioning: "sequential" passes h through a linear map of its own, "condition_i", before every block.
    """

    def conditional(x: g.Value, h: g.Value | None) -> g.Value:
        return block(x, h, hidden, layers, activation, exact_logdet, exact_inverse, coupling_only)

    def unconditional(x: g.Value) -> g.Value:
        return conditional(x, None)

    if h is None:
        return g.repeat(unconditional, x, times=depth, name="flow")
    if conditioning == "none":
        return g.repeat(conditional, x, h, times=depth, name="flow")
    inner, embedding = g.input("x", x.shape), g.input("h", h.shape)
    body = g.graph(inputs=(inner, embedding), x=conditional(inner, embedding))
    for i in range(depth):
        h = g.linear(h, h.channels, name=f"condition_{i}")
        x = g.call(body, x, h, name=f"block_{i}")
    return x


def fully_connected(
    x: g.Value, out: int, hidden: int = 256, depth: int = 2, norm: Norm = "none", tanh: bool = False
) -> g.Value:
    """Linear maps "linear_0" ... "linear_{depth + 1}" with leaky ReLUs (0.01) between them, and perhaps a tanh.

    Arguments:
        norm: "batch" normalises before every leaky ReLU, "actnorm" before the first alone, as the authors do.
    """
    for i in range(depth + 1):
        x = g.linear(x, hidden, name=f"linear_{i}")
        if norm == "batch" or (norm == "actnorm" and i == 0):
            x = g.norm(x, norm, name=f"norm_{i}")
        x = g.activation(x, "leaky_relu", name=f"activation_{i}")
    x = g.linear(x, out, name=f"linear_{depth + 1}")
    return g.activation(x, "tanh", name="tanh") if tanh else x


def coupling_rules(ours: str = "", theirs: str = "coupling.") -> list[Rule]:
    """Rules for :func:`double_coupling`: theirs ``s.0``, ``t.0``, ``s.1``, ``t.1``."""
    parts = [("first", "0"), ("second", "1")]
    nets = [("scale_net", "s"), ("shift_net", "t")]
    return [
        Rule(rf"{part}\.{net}\.(main\.\d+\.(?:weight|bias))", rf"{short}.{number}.\1").under(ours, theirs)
        for part, number in parts
        for net, short in nets
    ]


def block_rules(ours: str, theirs: str, names: Sequence[str] = ("norm_layer", "coupling", "shuffle")) -> list[Rule]:
    """Rules for the blocks of a flow.

    Arguments:
        ours: regular expression of a block's node, with a group for its number: ``r"flow\\.(\\d+)\\."``.
        theirs: their prefix, ``r"sub_layers.\\1."``.
        names: of norm, coupling and shuffle in theirs.
    """
    norm, coupling, shuffle = names
    rules = [Rule("norm." + rule.ours, f"{norm}.{rule.theirs}", rule.form) for rule in NORM]
    rules += coupling_rules(theirs=f"{coupling}.")
    rules.append(
        Rule(
            r"shuffle\.permutation",
            f"{shuffle}.forward_shuffle_idx",
            copies=((f"{shuffle}.backward_shuffle_idx", lambda t: t.argsort()),),
        )
    )
    return [_numbered(rule, ours, theirs) for rule in rules]


def _numbered(rule: Rule, ours: str, theirs: str) -> Rule:
    """The rule below a numbered node: its own groups count on from the node's."""
    shifted = rule.theirs.replace(r"\1", r"\2")
    copies = tuple((theirs + key, follow) for key, follow in rule.copies)
    return Rule(ours + rule.ours, theirs + shifted, rule.form, copies)


def flow_rules(theirs: str = "") -> list[Rule]:
    """Rules for :func:`flow` with the key names of Net2Net and of the invariances."""
    rules = block_rules(r"(?:flow\.|block_)(\d+)\.", theirs + r"sub_layers.\1.")
    rules.append(Rule(r"condition_(\d+)\.weight", theirs + r"conditioning_layers.\1.weight", CONV1X1))
    rules.append(Rule(r"condition_(\d+)\.bias", theirs + r"conditioning_layers.\1.bias"))
    return rules


def fully_connected_rules(depth: int, norm: Norm = "none", ours: str = "", theirs: str = "main.") -> list[Rule]:
    """Rules for :func:`fully_connected`, whose layers the authors number in one sequence."""
    rules, index = [], 0
    for i in range(depth + 2):
        rules.append(Rule(rf"linear_{i}\.(weight|bias)", rf"{index}.\1"))
        normed = i <= depth and (norm == "batch" or (norm == "actnorm" and i == 0))
        if normed and norm == "batch":
            fields = "weight|bias|running_mean|running_var|num_batches_tracked"
            rules.append(Rule(rf"norm_{i}\.({fields})", rf"{index + 1}.\1"))
        elif normed:
            rules += [Rule(rf"norm_{i}\.norm\.{rule.ours}", f"{index + 1}.{rule.theirs}", rule.form) for rule in NORM]
        index += 3 if normed else 2
    return [rule.under(ours, theirs) for rule in rules]

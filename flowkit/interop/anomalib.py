"""FastFlow of anomalib (https://github.com/open-edge-platform/anomalib): its flows, without the backbone."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from flowkit.bijections import AllInOneBlock, Compose
from flowkit.interop._state import below, tensor, wrong
from flowkit.interop.freia import all_in_one_block

_STEP = re.compile(r"(?:.*\.)?fast_flow_blocks\.(\d+)\.module_list\.(\d+)\.")


def fastflow(state: Mapping[str, Tensor], *, clamp: float = 2.0) -> nn.ModuleList:
    """The flows of a FastFlow model (arXiv 2111.07677), one for each level of features, in evaluation mode.

    Each is a :class:`flowkit.bijections.Compose` from features (B, C, H, W), normalised as anomalib does before its
    flows, to latents of the same shape and the log-det (B,): ``hidden, jacobian`` there. Kernel sizes, widths and
    numbers of steps are read from the weights.

    Arguments:
        state: of the torch model, of the Lightning module (``model.`` before each name) or its checkpoint's
            "state_dict"; entries that are not below ``fast_flow_blocks`` are left aside.
        clamp: affine_clamping; anomalib's own value is 2.

    Raises:
        ValueError: no flow in the state, or one whose networks are not two convolutions.
    """
    steps: dict[tuple[int, int], str] = {}
    for key in state:
        match = _STEP.match(key)
        if match:
            steps[int(match[1]), int(match[2])] = match[0]
    levels = sorted({level for level, _ in steps})
    if not levels:
        raise wrong("state", "entries below fast_flow_blocks.<level>.module_list.<step>", f"{len(state)} others")
    flows = nn.ModuleList()
    for level in levels:
        prefixes = [steps[key] for key in sorted(steps) if key[0] == level]
        flows.append(Compose(*(_step(below(state, prefix), clamp) for prefix in prefixes)))
    return flows.eval()


def _step(state: Mapping[str, Tensor], clamp: float) -> AllInOneBlock:
    """One block; its two convolutions have the numbers 0 and 2 or, with padding as layers of their own, 1 and 4."""
    net = below(state, "subnet.")
    numbers = sorted(int(key.split(".")[0]) for key in net if re.fullmatch(r"\d+\.weight", key))
    if len(numbers) != 2 or any(tensor(net, f"{n}.weight").ndim != 4 for n in numbers):
        raise wrong("state", "two convolutions in each subnet", f"{sorted(net)}")
    hidden, _, kernel, _ = tensor(net, f"{numbers[0]}.weight").shape
    places = {f"subnet.{n}.": f"subnet.{2 * i}." for i, n in enumerate(numbers)}
    renamed = {key: value for key, value in state.items() if not key.startswith("subnet.")}
    for theirs, ours in places.items():
        renamed |= {ours + key: value for key, value in below(state, theirs).items()}

    def convolutions(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, hidden, kernel, padding="same"),
            nn.ReLU(),
            nn.Conv2d(hidden, outputs, kernel, padding="same"),
        )

    return all_in_one_block(renamed, convolutions, clamp=clamp, release="0.2")

"""FrEIA's AllInOneBlock (https://github.com/vislearn/FrEIA), of release 0.2 and of the git version that follows it."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from flowkit.bijections import AllInOneBlock
from flowkit.interop._state import below, tensor, wrong

_SCALES = {"SOFTPLUS": "softplus", "SIGMOID": "sigmoid", "EXP": "exp"}
_OWN = ("global_scale", "global_offset", "w_perm", "w_perm_inv", "w_0", "vk_householder")


def all_in_one_block(
    state: Mapping[str, Tensor],
    net: Callable[[int, int], nn.Module],
    *,
    clamp: float = 2.0,
    release: str | None = None,
    permute_soft: bool | None = None,
    global_affine: str = "SOFTPLUS",
    gin: bool = False,
    reverse_permutation: bool = False,
) -> AllInOneBlock:
    """The block that holds the weights of a FrEIA AllInOneBlock, in evaluation mode.

    What the state dict does not tell must be said as it was said to FrEIA.

    Arguments:
        state: the block's state dict: global_scale, global_offset, w_perm (or w_0 and vk_householder), subnet.*.
        net: FrEIA's subnet_constructor, or any factory of a module with the same state dict below ``subnet.``.
        clamp: affine_clamping.
        release: "0.2" (and anomalib), whose clamp is ``clamp * tanh(u / 10)``, or "git", ``clamp * tanh(u / 10 /
            clamp)``. None: "git" if the state has an index of integers as w_perm, "0.2" if it has a 0/1 matrix.
        permute_soft: None: whether the stored matrix is anything but a permutation.
        global_affine: global_affine_type.
        gin, reverse_permutation: gin_block, reverse_permutation.

    Raises:
        ValueError: entries that are missing, left over or of a wrong shape; an option that must be said.
    """
    if global_affine not in _SCALES:
        raise wrong("global_affine", f"one of {', '.join(_SCALES)}", repr(global_affine))
    converted = all_in_one_state(state, permute_soft=permute_soft, gin=gin)
    if release is None:
        release = _release(state)
    if release not in ("0.2", "git"):
        raise wrong("release", "'0.2' or 'git'", repr(release))
    channels = converted["shift"].numel()
    weight = next((tensor(state, key) for key in ("subnet.0.weight", "subnet.1.weight") if key in state), None)
    passive = channels - channels // 2
    reflections = converted.get("reflections")
    block = AllInOneBlock(
        channels,
        net,
        condition=0 if weight is None else weight.shape[1] - passive,
        bound=clamp,
        gain=0.1 if release == "0.2" else 0.1 / clamp,
        scale=_SCALES[global_affine],
        mix=converted.get("coupling.permutation", converted.get("mix.matrix.weight", "permutation")),
        reflections=0 if reflections is None else len(reflections),
        reverse_permutation=reverse_permutation,
        volume_preserving=gin,
    )
    try:
        block.load_state_dict(converted)
    except RuntimeError as error:
        raise wrong("state", "entries that fit the block and its net", str(error)) from None
    return block.to(converted["shift"].dtype).eval()


def all_in_one_state(
    state: Mapping[str, Tensor], *, permute_soft: bool | None = None, gin: bool = False
) -> dict[str, Tensor]:
    """A FrEIA AllInOneBlock's state dict as one of :class:`flowkit.bijections.AllInOneBlock`, by differentiable maps.

    Raises:
        ValueError: entries that are missing or unknown.
    """
    unknown = [key for key in state if key not in _OWN and not key.startswith("subnet.")]
    if unknown:
        raise wrong("state", "the entries of one AllInOneBlock", f"also {', '.join(sorted(unknown)[:3])}")
    found = {f"coupling.net.{key}": value for key, value in below(state, "subnet.").items()}
    found["shift"] = tensor(state, "global_offset").flatten()
    if not gin:
        found["scale"] = tensor(state, "global_scale").flatten()
    if "vk_householder" in state:
        return found | {"mix.matrix.weight": tensor(state, "w_0"), "reflections": tensor(state, "vk_householder")}
    mix = tensor(state, "w_perm")
    if not mix.is_floating_point():
        return found | {"coupling.permutation": mix.long().flatten()}
    matrix = mix.flatten(1)
    soft = not _is_permutation(matrix) if permute_soft is None else permute_soft
    return found | ({"mix.matrix.weight": matrix} if soft else {"coupling.permutation": matrix.argmax(1)})


def _is_permutation(matrix: Tensor) -> bool:
    ones = (matrix == 1).sum(1)
    return bool(((matrix == 0) | (matrix == 1)).all()) and bool((ones == 1).all())


def _release(state: Mapping[str, Tensor]) -> str:
    if "w_perm" in state and not state["w_perm"].is_floating_point():
        return "git"
    if "w_perm" in state and _is_permutation(state["w_perm"].flatten(1)):
        return "0.2"
    told = "'0.2' or 'git', since both releases store rotations and reflections in the same form"
    raise wrong("release", told, "none")

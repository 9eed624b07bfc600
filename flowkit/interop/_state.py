"""What the importers share: reading entries of a state dict."""

from collections.abc import Mapping

from torch import Tensor


def tensor(state: Mapping[str, Tensor], key: str) -> Tensor:
    """The entry ``key``.

    Raises:
        ValueError: it is missing, or no tensor.
    """
    value = state.get(key)
    if not isinstance(value, Tensor):
        given = "nothing" if value is None else f"a {type(value).__name__}"
        raise wrong("state", f"a tensor '{key}'", f"{given} among {', '.join(sorted(state)[:4])} ...")
    return value


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names start with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def wrong(argument: str, expected: str, given: str) -> ValueError:
    """The error for an argument that does not fit."""
    return ValueError(f"{argument}: expected {expected}, got {given}")

"""How a latent is divided into factors: sizes and names, concepts first, the residual last."""

from __future__ import annotations


def chunks(channels: int, count: int) -> list[int]:
    """The sizes that the authors' code makes of ``count`` factors: equal ones, rounded up, and a smaller last.

    There may be fewer than asked for: 64 channels in 9 are 8 chunks of 8.

    Raises:
        ValueError: for numbers below 1.
    """
    if channels < 1 or count < 1:
        raise ValueError(f"factors: expected at least one channel and one factor, got {channels} and {count}")
    size = -(-channels // count)
    return [size] * (channels // size) + [channels % size] * (channels % size > 0)


def names(text: str) -> list[str]:
    """Names from a text such as ``digit,colour,residual``; ValueError if one is no identifier or repeats."""
    found = [name.strip() for name in text.split(",")]
    if len(found) < 2 or len(set(found)) < len(found) or not all(name.isidentifier() for name in found):
        raise ValueError(f"factors: expected two or more different names, such as digit,colour,residual, got {text!r}")
    return found


def sizes(text: str, channels: int, factors: list[str]) -> list[int]:
    """Sizes from a text such as ``22,11,31``; an empty one gives :func:`chunks`.

    Raises:
        ValueError: if they are not positive whole numbers, one for each factor, that add up to the channels.
    """
    if not text:
        found = chunks(channels, len(factors))
        if len(found) < len(factors):
            raise ValueError(
                f"sizes: {channels} channels in {len(factors)} equal chunks are {len(found)} of {found[0]}, "
                f"too few for {', '.join(factors)}; state sizes={','.join(['1'] * len(factors))} or the like"
            )
        return found
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"sizes: expected positive whole numbers, such as 22,11,31, got {text!r}")
    found = [int(word) for word in words]
    if len(found) != len(factors) or sum(found) != channels:
        raise ValueError(
            f"sizes: expected {len(factors)} ({', '.join(factors)}) that add up to {channels}, "
            f"got {len(found)} that add up to {sum(found)}"
        )
    return found

"""How the authors' weight files map onto our graphs: key names and tensor layouts, both ways, checked together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

State = Mapping[str, Tensor]


class Form(NamedTuple):
    """How the same numbers lie in the authors' file (``theirs``) and in our state dict (``ours``)."""

    theirs: Callable[[Tensor], Tensor]
    ours: Callable[[Tensor], Tensor]


SAME = Form(lambda t: t, lambda t: t)
CHANNELS = Form(lambda t: t.reshape(1, -1, 1, 1), lambda t: t.reshape(-1))
"""A vector (C,), theirs (1, C, 1, 1)."""
FLAG = Form(lambda t: t.byte(), lambda t: t.bool())
"""A flag, theirs uint8."""
CONV1X1 = Form(lambda t: t[..., None, None], lambda t: t.flatten(1))
"""A matrix (O, I), theirs the weight of a 1x1 convolution (O, I, 1, 1)."""


@dataclass(frozen=True)
class Rule:
    """What the authors call the tensors of ours whose key matches.

    Arguments:
        ours: a regular expression for the whole of our key.
        theirs: their key, with ``\\1`` for groups.
        form: how the numbers lie.
        copies: further keys of theirs that follow from the same tensor and are written, but not needed to read.
    """

    ours: str
    theirs: str
    form: Form = SAME
    copies: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()

    def under(self, ours: str = "", theirs: str = "") -> Rule:
        """The same rule below a node of ours and a prefix of theirs; both end with a dot, or are empty."""
        shifted = tuple((theirs + key, follow) for key, follow in self.copies)
        return Rule(re.escape(ours) + self.ours, theirs + self.theirs, self.form, shifted)


class Layout:
    """The keys of a model of ours beside those of the authors' file.

    Arguments:
        model: the module, or its state dict; may be on the meta device.
        rules: the first that matches a key of ours counts.
        optional: regular expressions of keys of theirs that may be there and hold nothing needed.
        spare: regular expressions of keys of ours that nothing depends on: a file may lack them or hold them in another
            shape, and does not have those that match no rule; a model then keeps its own.

    Raises:
        ValueError: if a key of ours matches no rule, or two are given the same name.
    """

    def __init__(
        self,
        model: nn.Module | State,
        rules: Sequence[Rule],
        optional: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        state = model.state_dict() if isinstance(model, nn.Module) else model
        self._ours = {key: value.to("meta") for key, value in state.items()}
        self._optional = [re.compile(pattern) for pattern in optional]
        compiled = [(re.compile(rule.ours), rule) for rule in rules]
        self.names: dict[str, str] = {}
        """Their key of each of ours."""
        self._forms: dict[str, Form] = {}
        self._copies: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {}
        self._spare: set[str] = set()
        """Their keys of tensors that a file may lack."""
        for key in state:
            can_lack = any(re.fullmatch(pattern, key) for pattern in spare)
            match, rule = next(((m, r) for p, r in compiled if (m := p.fullmatch(key))), (None, None))
            if match is None or rule is None:
                if can_lack:
                    continue
                raise ValueError(f"layout: no rule for our key {key!r}")
            name = match.expand(rule.theirs)
            if name in self.names.values():
                raise ValueError(f"layout: {name!r} stands for {key!r} and for another key of ours")
            self.names[key], self._forms[key] = name, rule.form
            if can_lack:
                self._spare.add(name)
            for copy, follow in rule.copies:
                self._copies[match.expand(copy)] = (key, follow)

    @property
    def entries(self) -> dict[str, Tensor]:
        """Every key of the authors' file with a meta tensor of its shape and type."""
        return self.write(self._ours)

    def read(self, theirs: State, beside: Sequence[str] = ()) -> dict[str, Tensor]:
        """Our state dict from the authors' tensors, without what is spare and not among them.

        Arguments:
            beside: prefixes of keys that belong to other networks in the same file.

        Raises:
            ValueError: one message with every missing, unexpected and misshapen tensor.
        """
        found = {key: value for key, value in theirs.items() if not key.startswith(tuple(beside))}
        wanted, faults = self.entries, []
        for name in self._spare & found.keys():
            if found[name].shape != wanted[name].shape:
                del found[name]
        for name in sorted(set(self.names.values()) - found.keys() - self._spare):
            faults.append(f"missing: {name} {tuple(wanted[name].shape)}")
        for name in sorted(found.keys() - wanted.keys()):
            if not any(pattern.fullmatch(name) for pattern in self._optional):
                faults.append(f"unexpected: {name} {tuple(found[name].shape)}")
        for name in sorted(found.keys() & wanted.keys()):
            if found[name].shape != wanted[name].shape:
                faults.append(
                    f"misshapen: {name}: expected {tuple(wanted[name].shape)}, got {tuple(found[name].shape)}"
                )
        if faults:
            raise ValueError("weights: the file does not fit the model\n  " + "\n  ".join(faults))
        there = {key: name for key, name in self.names.items() if name in found}
        return {key: self._forms[key].ours(found[name]).contiguous() for key, name in there.items()}

    def write(self, ours: State) -> dict[str, Tensor]:
        """The authors' tensors from our state dict, what follows from others included."""
        written = {name: self._forms[key].theirs(ours[key]) for key, name in self.names.items()}
        written.update({copy: follow(ours[key]) for copy, (key, follow) in self._copies.items()})
        return written

    def gradients(self, model: nn.Module) -> dict[str, Tensor]:
        """The gradients of a model's parameters (those that have one) under the authors' keys and in their layout."""
        given = {key: p.grad for key, p in model.named_parameters()}
        return {self.names[key]: self._forms[key].theirs(grad) for key, grad in given.items() if grad is not None}

    def load(self, model: nn.Module, theirs: State, beside: Sequence[str] = ()) -> None:
        """Fills a model with the authors' tensors; errors as :meth:`read`."""
        model.load_state_dict({**model.state_dict(), **self.read(theirs, beside)})

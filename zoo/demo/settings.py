"""Every number of the demo that is not a network's size, in one table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from zoo.registry import fits


@dataclass(frozen=True)
class Settings:
    """Settings of the demo.

    Arguments:
        seed: of the split, the training and the samples.
        networks: which configuration of the registered graphs: "default" or "small".
        batch: images a training step.
        classifier_epochs, autoencoder_epochs, flow_epochs: passes over the training part.
        every: epochs between validations and checkpoints.
        classifier_rate, autoencoder_rate, flow_rate: peaks of the learning-rate cycles.
        weight_decay: of AdamW, in all stages.
        augmentation: strength of the random rotations, scalings and shifts, see :func:`zoo.data.digits.augment`.
        prior_weight: of the autoencoder's KL term: how much noise its latents carry.
        draws: translations of each held-out condition for the figures.
    """

    seed: int = 0
    networks: str = "default"
    batch: int = 64
    classifier_epochs: int = 40
    autoencoder_epochs: int = 80
    flow_epochs: int = 80
    every: int = 5
    classifier_rate: float = 4e-3
    autoencoder_rate: float = 3e-3
    flow_rate: float = 3e-3
    weight_decay: float = 1e-2
    augmentation: float = 1.5
    prior_weight: float = 0.02
    draws: int = 10

    def __post_init__(self) -> None:
        if self.networks not in ("default", "small"):
            raise ValueError(f"networks: expected default or small, got {self.networks!r}")
        for name in ("batch", "classifier_epochs", "autoencoder_epochs", "flow_epochs", "every", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("classifier_epochs", "autoencoder_epochs", "flow_epochs"):
            if getattr(self, name) % self.every:
                raise ValueError(f"{name}: expected a multiple of every={self.every}, got {getattr(self, name)}")

    def network(self, name: str) -> str:
        """The registered name of one of the demo's networks."""
        return f"demo/{name}" + ("" if self.networks == "default" else f"_{self.networks}")

    def schedule(self, stage: str) -> tuple[int, float]:
        """Epochs and peak learning rate of a stage."""
        return {
            "classifier": (self.classifier_epochs, self.classifier_rate),
            "autoencoder": (self.autoencoder_epochs, self.autoencoder_rate),
            "translator": (self.flow_epochs, self.flow_rate),
        }[stage]

    @staticmethod
    def of(**overrides: Any) -> Settings:
        """The settings with overrides; ValueError lists what exists if one does not, or has the wrong type."""
        known = {item.name: item for item in fields(Settings)}
        unknown = [name for name in overrides if name not in known]
        if unknown:
            raise ValueError(f"demo: expected settings among {', '.join(known)}, got {', '.join(unknown)}")
        for name, value in overrides.items():
            wanted = type(known[name].default)
            if not fits(value, wanted):
                raise ValueError(f"demo: {name} expects {wanted.__name__}, got {value!r}")
        return Settings(**overrides)

"""Experts: fixed networks whose representations a flow translates, behind two small interfaces."""

from zoo.experts.digits import DigitAutoencoder, DigitClassifier

__all__ = ["DigitAutoencoder", "DigitClassifier"]

"""Tests of the conditioner networks."""

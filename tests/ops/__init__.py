"""Tests of flowkit.ops."""

"""Tests of flowkit.interop."""

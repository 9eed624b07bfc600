"""Tests of what the papers share."""

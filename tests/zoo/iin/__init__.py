"""Tests of the IIN."""

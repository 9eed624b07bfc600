"""Tests of zoo.invariances."""

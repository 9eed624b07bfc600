"""Tests of the invertible layers."""

"""Tests of Network Fusion."""

"""Tests of cuda_on_cpu."""

"""The row groups of `benchmarks.figures`, one module each: `rows(settings)` yields what it measured."""

"""Measurements, one script each: `make bench`, or `python -m benchmarks.bench_<name>`; results in `results/`."""

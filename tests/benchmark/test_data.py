"""How fast data are, and what workers cost: the command."""

import re
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is measured through Linux's /proc")
def test_benchmark_of_data(run):
    """Pipelines and a small store; the memory of workers where /proc tells it."""
    result = run("benchmark", "data", "--samples", "200", "--workers", "2", "--seconds", "0.05", "--rounds", "1")
    assert result.code == 0, result.err
    for what in ("3d from pickled clips", "3d from the store, first steps cached", "2d from pickled clips"):
        assert re.search(rf"{what}: [\d,]+ samples/s", result.out)
    assert re.search(r"2 workers together use -?\d+ MiB more than one", result.out)

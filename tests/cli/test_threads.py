"""How OpenMP's threads wait: by what else runs, and never against what the user says."""

from __future__ import annotations

import pytest

from luthier.cli.threads import say_how_to_wait


def told(folder, text, **environment):
    processes = folder / "stat"
    if text is not None:
        processes.write_text(text)
    say_how_to_wait(environment, processes)
    return environment


@pytest.mark.parametrize(
    ("text", "spins"),
    [
        ("cpu  1 2 3\nprocs_running 1\nprocs_blocked 0\n", "2000"),
        ("cpu  1 2 3\nprocs_running 2\nprocs_blocked 0\n", "0"),
        ("cpu  1 2 3\n", "0"),  # a system that does not tell
        (None, "0"),
    ],
)
def test_threads_look_out_for_work_only_where_nobody_else_runs(tmp_path, text, spins):
    assert told(tmp_path, text) == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": spins}


def test_what_the_user_says_stays(tmp_path):
    idle = "procs_running 1\n"
    assert told(tmp_path, idle, OMP_WAIT_POLICY="ACTIVE") == {"OMP_WAIT_POLICY": "ACTIVE"}
    assert told(tmp_path, idle, GOMP_SPINCOUNT="7") == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}

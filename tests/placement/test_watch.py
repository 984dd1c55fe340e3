"""A process that waits in vain for one that was lost ends, too."""

from __future__ import annotations

import subprocess
import sys
import threading

from luthier.train.watch import watched


def child(code):
    return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"])


def test_a_block_that_outlasts_a_failed_process_is_ended_with_the_reason():
    ended, said = threading.Event(), []

    def end(message):
        said.append(message)
        ended.set()

    with watched([child(0), child(3)], grace=0.05, end=end):
        assert ended.wait(20)
    (message,) = said
    assert "exit code 3" in message and "`luthier resume` goes on from it" in message


def test_processes_that_end_well_and_blocks_that_end_in_time_are_let_be():
    said = []
    done, failed = child(0), child(3)
    done.wait(), failed.wait()
    with watched([done], grace=0.01, end=said.append):
        threading.Event().wait(0.1)
    with watched([failed], grace=30, end=said.append):
        threading.Event().wait(0.1)
    assert not said

"""One process started here and waited for; what stops Luthier stops it too, gently."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence

from luthier.core.errors import INTERRUPTED, USER, Interrupted, Refusal, UserError

STDERR = 2


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the command with all its output on stderr; raises what fits its exit code.

    It has a session of its own: Ctrl-C reaches Luthier alone, which asks the command once to stop and waits, so that
    its workers write their checkpoint.
    """
    process = subprocess.Popen(command, env=environment, stdout=STDERR, start_new_session=True)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    ended(code)


def ended(code: int, words: str = "what they said is above") -> None:
    """Return where the workers ended well; raise what fits their exit code otherwise."""
    if code == 0:
        return
    if code == USER:
        raise UserError(f"the workers refused their input: {words}")
    if code == INTERRUPTED:
        raise Interrupted("the workers were stopped")
    raise Refusal(f"the workers ended with exit code {code}: {words}")

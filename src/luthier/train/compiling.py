"""Whether the layers are compiled: decided when a training begins, and kept when it goes on."""

from __future__ import annotations

from luthier.core.events import Stopwatch, emit, warn
from luthier.engine.compiled import compile_layers, refused, settled
from luthier.engine.job import Job
from luthier.train.state import State


def settle(job: Job, state: State) -> None:
    """Compile the layers of the job if the recipe asks for it and it pays; a resumed training does as before."""
    if job.settings.compile == "off":
        return
    watch = Stopwatch()
    if state.compiled is None:
        found = settled(job, state.step, state.micro_tokens)
        state.compiled = bool(found.layers)
        emit("train.compile", found.words, compiled=state.compiled, why=found.why)
    elif state.compiled and (problem := refused(job)):
        warn("train.resume", f"the resumed run will not be bit-identical: layers were compiled, and now {problem}")
    elif state.compiled:
        compile_layers(job)
    state.seconds += watch.seconds

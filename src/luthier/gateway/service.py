"""What the running server holds, and how a request gets from a parsed body into the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError
from luthier.gateway.errors import ApiError, busy, invalid, leaving, no_model, too_long
from luthier.gateway.gate import Gate
from luthier.gateway.kinds import Kind
from luthier.gateway.limits import Limits
from luthier.gateway.lineage import Origin, origin_of
from luthier.gateway.metrics import Metrics
from luthier.gateway.requests import Asked
from luthier.generation.engine import Busy, Closed, Engine, Ticket
from luthier.generation.request import Request, Sampling
from luthier.generation.served import Served
from luthier.monitor.traffic import Recorder, Shape, find_answer

REMEMBERED = 10_000  # answers whose origin is known without a look into the traffic


class Service:
    """The models of `runs` behind one engine, with everything that is counted and kept of their answers.

    `content`: whether texts are recorded with the shapes.
    """

    def __init__(self, served: Served, engine: Engine, runs: Sequence[Path], limits: Limits, content: bool) -> None:
        self.served, self.engine, self.limits, self.content = served, engine, limits, content
        behind = {name: served.find(name) for name in served.names}
        self.origins = {name: origin_of(adapter.run, adapter.variant) for name, adapter in behind.items()}
        self.home = runs[0]
        self.gate = Gate(limits.grace)
        self.metrics = Metrics(served.context)
        self.recorders = {run: Recorder(run, self.metrics.unrecorded.inc) for run in runs}
        self.waiters = ThreadPoolExecutor(limits.running + limits.waiting, thread_name_prefix="answer")
        # one thread, since a tokenizer may be used by one at a time
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._recent: dict[str, tuple[str, Origin]] = {}

    def origin(self, model: str) -> Origin:
        """Where a model comes from; raises `ApiError` (404) for one that is not served."""
        if model not in self.origins:
            raise no_model(model, list(self.origins))
        return self.origins[model]

    async def submit(self, kind: Kind, asked: Asked) -> Ticket:
        """Tokenize a request and queue it; raises `ApiError` where it does not fit, or the queue is full."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._submit, kind, asked)

    def _submit(self, kind: Kind, asked: Asked) -> Ticket:
        adapter = self.served.find(asked.model)
        try:
            ids = kind.ids(adapter.prompts, asked)
            if not ids:
                raise invalid("The prompt is empty: there is nothing to go on with.", param=kind.reads)
            sampling = self._sampling(kind, asked, len(ids) + len(adapter.prefix))
            return self.engine.submit(Request(tuple(ids), sampling, asked.model))
        except UserError as error:  # the chat template refuses these roles, for example
            raise invalid(str(error)) from None
        except Busy:
            raise busy() from None
        except Closed:
            raise leaving() from None

    def _sampling(self, kind: Kind, asked: Asked, prompt_tokens: int) -> Sampling:
        """How an answer is drawn; raises `ApiError` (400) where prompt and answer are too long."""
        context, most, wanted = self.served.context, self.limits.tokens, asked.most or 1
        room = context if self.served.base.encoder_decoder else context - prompt_tokens
        if prompt_tokens > context or room < 1:
            raise too_long(
                f"The prompt has {prompt_tokens} tokens and the model reads and writes at most {context}: "
                "shorten the prompt.",
                kind.reads,
            )
        if wanted > room:
            raise too_long(
                f"The model reads and writes at most {context} tokens; the prompt has {prompt_tokens} and the answer "
                f"may have {wanted}. Shorten the prompt or lower max_tokens.",
                kind.reads,
            )
        if wanted > most:
            message = f"max_tokens is {wanted}; this server allows {most}. Lower it, or serve with --max-tokens."
            raise invalid(message, param="max_tokens")
        drawn: dict[str, Any] = {
            "temperature": asked.temperature,
            "top_k": asked.top_k,
            "top_p": asked.top_p,
            "repetition_penalty": asked.repetition_penalty,
            "seed": asked.seed,
        }
        given = {name: value for name, value in drawn.items() if value is not None}
        return Sampling(max_new_tokens=asked.most or min(most, room), stop=asked.stops, **given)

    def remember(self, answer: str, model: str, origin: Origin) -> None:
        """Keep where an answer came from, for its rating; the oldest are looked up in the traffic instead."""
        self._recent[answer] = model, origin
        if len(self._recent) > REMEMBERED:
            self._recent.pop(next(iter(self._recent)))

    def answered(self, answer: str) -> tuple[str, Origin]:
        """Model and origin of an answer; raises `ApiError` (404) for one that was never given."""
        if answer in self._recent:
            return self._recent[answer]
        for run in self.recorders:
            found = find_answer(run, answer)
            if found is not None:
                model, variant, weights = found
                created, name = next((o.created, o.run) for o in self.origins.values() if o.folder == run)
                return model, Origin(run, name, variant, weights, created)
        raise ApiError(404, f"No answer of this server has the id '{answer}'.", param="id", code="answer_not_found")

    def record(self, run: Path, shape: Shape) -> None:
        """Keep a request's shape with its run."""
        self.recorders[run].put(shape)

    def close(self) -> None:
        """Stop the engine and write what is left; everybody must have gone."""
        self.engine.close(finish=False)
        for recorder in self.recorders.values():
            recorder.close()
        for pool in (self.waiters, self._reader):
            pool.shutdown(wait=False, cancel_futures=True)

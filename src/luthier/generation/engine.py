"""The engine: a queue of requests, and one thread that reads prompts and takes all running answers on by a token.

Requests that can share a forward pass share a batch. Between two steps finished rows leave, and waiting requests join
in the order of their arrival: nobody waits for a batch to end, and nobody's answer stops for longer than it takes to
read one group of prompts, which is small for that reason.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from itertools import islice
from types import TracebackType

import torch

from luthier.generation.lane import Lane
from luthier.generation.request import CANCELLED, Busy, Closed, Failed, Request
from luthier.generation.sampling import Chooser
from luthier.generation.served import Served
from luthier.generation.text import Stream
from luthier.generation.ticket import Row, Ticket

__all__ = ["Busy", "Closed", "Engine", "Failed", "Ticket"]

PROMPT_TOKENS = 2048  # of the prompts that are read between two steps, padding included, unless it is a single one


class Engine:
    """Answers requests with the models of `served`: `max_batch` at a time, while at most `max_waiting` wait.

    One thread of its own runs the models. It ends with `close`, and with the process.
    """

    def __init__(self, served: Served, max_batch: int = 16, max_waiting: int = 256) -> None:
        self.served, self.max_batch, self.max_waiting = served, max_batch, max_waiting
        self._tokenizer = deepcopy(served.base.tokenizer)  # one that no other thread uses
        pad = served.base.tokenizer.pad_token_id
        self._pad = pad if isinstance(pad, int) else 0  # what stands there is masked by position
        self._queue: deque[Row] = deque()
        self._lanes: dict[int, Lane] = {}
        self._joining: Sequence[Row] = ()
        self._state = threading.Condition()  # guards the queue and what follows
        self._closed = False
        self._finish = True
        self._worker = threading.Thread(target=self._work, name="luthier-engine", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Answers in the making."""
        return sum(len(lane.rows) for lane in list(self._lanes.values()))

    def submit(self, request: Request) -> Ticket:
        """Put a request into the queue; its answer comes through the ticket.

        Errors: UserError for a model that is not served and a prompt that is empty, too long or holds ids that are no
        tokens; `Busy` where the queue is full; `Closed` after `close`.
        """
        row = self._row(request)
        with self._state:
            if self._closed:
                raise Closed("the engine is closed and takes no more requests")
            if len(self._queue) >= self.max_waiting:
                raise Busy(f"{len(self._queue)} requests wait already: ask again later")
            self._queue.append(row)
            self._state.notify()
        return row.ticket

    def close(self, finish: bool = True) -> None:
        """Take no more requests, and return when the thread has ended.

        What runs is finished, or without `finish` cancelled; what waits is cancelled.
        """
        with self._state:
            self._closed, self._finish = True, finish
            self._state.notify()
        self._worker.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finish=error is None)

    def _row(self, request: Request) -> Row:
        """The request made ready; UserError where it cannot be answered."""
        adapter = self.served.find(request.adapter)
        prompt = list(request.prompt)
        room = self.served.room(adapter, prompt)
        said = [adapter.model.config.decoder_start_token_id] if self.served.base.encoder_decoder else prompt
        return Row(
            Ticket(len(prompt), self._wake),
            adapter,
            [*adapter.prefix, *prompt],
            min(request.sampling.max_new_tokens, room),
            Chooser(request.sampling, said),
            Stream(self._tokenizer, request.sampling.stop),
        )

    def _wake(self) -> None:
        with self._state:
            self._state.notify()

    def _work(self) -> None:
        """The thread: read a group of prompts, take every answer on by a token, and again."""
        with torch.no_grad(), _GivingUp(self):
            while self._wait():
                group = self._group()
                if group:
                    self._try(self._lane(group[0]), group)
                for lane in self._lanes.values():
                    if lane.rows:
                        self._try(lane)

    def _wait(self) -> bool:
        """Until there is something to do; False when there never will be."""
        with self._state:
            while True:
                if self._closed:
                    self._refuse(Closed("the engine was closed before the answer began"))
                for row in [row for row in self._queue if row.ticket.cancelled]:
                    self._queue.remove(row)
                    row.finish(CANCELLED)
                if self._closed and not self._finish:
                    for row in self._rows():
                        row.ticket.cancelled = True
                if self._queue or self.running:
                    return True
                if self._closed:
                    return False
                self._state.wait()

    def _group(self) -> list[Row]:
        """The waiting requests that are read next: the first, and of those that have a place the ones like it."""
        free = self.max_batch - self.running
        if not self._queue or free < 1:
            return []
        first = self._queue[0]
        lane = self._lane(first)
        if lane.rows and not lane.joins:
            return []
        group: list[Row] = []
        with self._state:
            for row in list(islice(self._queue, free)):
                longest = max(len(row.prompt) for row in (*group, row))
                if row.adapter.model is lane.model and (not group or (len(group) + 1) * longest <= PROMPT_TOKENS):
                    group.append(row)
                    self._queue.remove(row)
        return group

    def _lane(self, row: Row) -> Lane:
        model, mixer = row.adapter.model, self.served.mixer
        if id(model) not in self._lanes:
            self._lanes[id(model)] = Lane(model, self._pad, mixer if model is mixer.model else None)
        return self._lanes[id(model)]

    def _rows(self) -> list[Row]:
        return [row for lane in list(self._lanes.values()) for row in list(lane.rows)]

    def _try(self, lane: Lane, joining: Sequence[Row] = ()) -> None:
        """Let rows join a lane, or without any take its rows on by a token; what breaks takes that lane along."""
        self._joining = joining
        try:
            if joining:
                lane.read(joining)
            else:
                lane.step()
        except RuntimeError as error:  # memory has run out, for example: the other lanes can go on
            lane.fail(Failed(f"the answer broke off: {error}"), joining)

    def _refuse(self, error: Closed | Failed) -> None:
        """Send everybody away who waits."""
        while self._queue:
            self._queue.popleft().ticket.put(error)

    def _break_off(self, error: Failed) -> None:
        """Take no more requests and give everything up; the thread's own last act."""
        with self._state:
            self._closed = True
            self._refuse(error)
            for lane in self._lanes.values():
                lane.fail(error, self._joining)


class _GivingUp:
    """Lets nobody wait for ever where the thread dies of a defect: whoever waits is told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.engine._break_off(Failed(f"the engine broke down: {error!r}"))

"""A served run under load: 100 streams at once over all its models, in waves, and SIGTERM amid a last one.

Usage: python -m benchmarks.bench_serve [RUN] [--streams N] [--tokens N] [--waves N] [--smoke]

RUN is by default the newest finished run of the recipe `tutor`. The server is a process as `luthier serve` starts it;
every answer must equal the one that the same question got when it was alone, no stream may be lost, and memory must
not grow from wave to wave once the allocator is warm. `--smoke`: a toy run, to see that it works; nothing is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from httpx2 import AsyncClient, HTTPError, Limits

from benchmarks.record import write
from luthier.core.events import Stopwatch
from luthier.core.records import input_text
from luthier.core.shards import Shard
from luthier.pipeline.index import entries, find

WARM = 8  # waves after which the allocator holds what it needs
GROWTH = 0.05  # the last wave's peak may be above that of the first one after these by this share
BATCH = 16  # answers in the making at once, as `luthier serve` has it


@dataclass(frozen=True)
class Job:
    """One question to one model."""

    number: int
    model: str
    prompt: str


@dataclass
class Answer:
    """What came of it; status 0: the connection broke, and -1: there was none to be had. Times in seconds."""

    status: int = 0
    text: str = ""
    finish: str | None = None
    tokens: int = 0
    first: float | None = None
    seconds: float = 0.0

    @property
    def said(self) -> tuple[str, str | None]:
        """What must not depend on who else asks."""
        return self.text, self.finish


@dataclass
class Load:
    """A client of the server, its process, and how long the answers may be."""

    client: AsyncClient
    process: psutil.Process
    tokens: int
    began: list[Job] = field(default_factory=list)

    async def ask(self, job: Job) -> Answer:
        """One stream, read to its end."""
        watch, answer = Stopwatch(), Answer(status=-1)
        body = {"model": job.model, "messages": [{"role": "user", "content": job.prompt}], "max_tokens": self.tokens}
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self.client.stream("POST", "/v1/chat/completions", json={**body, **streamed}) as reply:
                answer.status = 0
                if reply.status_code == 200:
                    async for line in reply.aiter_lines():
                        self._read(line, job, answer, watch)
                    answer.status = 200 if answer.finish else 0
                else:
                    answer.status, answer.text = reply.status_code, (await reply.aread()).decode()
        except HTTPError as error:
            answer.text = repr(error)
        answer.seconds = watch.seconds
        return answer

    def _read(self, line: str, job: Job, answer: Answer, watch: Stopwatch) -> None:
        if not line.startswith("data: {"):
            return
        event = json.loads(line.removeprefix("data: "))
        if answer.first is None:
            answer.first = watch.seconds
            self.began.append(job)
        for choice in event.get("choices", ()):
            answer.text += choice["delta"].get("content") or ""
            answer.finish = choice["finish_reason"] or answer.finish
        answer.tokens = (event.get("usage") or {}).get("completion_tokens", answer.tokens)

    async def wave(self, jobs: Sequence[Job], alone: Sequence[Answer]) -> dict[str, Any]:
        """All questions at once: how fast, how many as they were alone, and the server's memory meanwhile."""
        watch, peaks = Stopwatch(), [self.process.memory_info().rss]

        async def look() -> None:
            while True:
                peaks.append(self.process.memory_info().rss)
                await asyncio.sleep(0.05)

        looking = asyncio.create_task(look())
        answers = await asyncio.gather(*map(self.ask, jobs))
        looking.cancel()
        same = sum(a.said == b.said for a, b in zip(answers, alone, strict=True))
        memory = {"peak_rss_bytes": max(peaks), "rss_bytes": self.process.memory_info().rss}
        return {**rates(answers, watch.seconds), "as_alone": same, **memory}

    async def interrupted(self, jobs: Sequence[Job], alone: Sequence[Answer]) -> dict[str, Any]:
        """A wave with SIGTERM in the middle, and some who come after it."""
        self.began.clear()
        running = [asyncio.create_task(self.ask(job)) for job in jobs]
        while len(self.began) < min(BATCH, len(jobs)) // 2:
            await asyncio.sleep(0.002)
        began, watch = set(self.began), Stopwatch()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.05)
        late = await asyncio.gather(*map(self.ask, jobs[:8]))
        answers = await asyncio.gather(*running)
        finished = [(job, a, b) for job, a, b in zip(jobs, answers, alone, strict=True) if a.status == 200]
        return {
            "began_before": len(began),
            "of_these_finished": len(began & {job for job, _, _ in finished}),
            "finished": len(finished),
            "as_alone": sum(a.said == b.said for _, a, b in finished),
            "refused_503": sum(answer.status == 503 for answer in answers),
            "lost": sum(answer.status not in (200, 503) for answer in answers),
            "late": dict(Counter("gone" if a.status == -1 else str(a.status) for a in late)),
            "seconds_to_finish": round(watch.seconds, 3),
        }


def rates(answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """What a wave gave: throughput, and medians and 95th percentiles of the times."""

    def quantiles(values: list[float]) -> dict[str, float]:
        return {f"p{q}": round(float(np.percentile(values, q)), 4) for q in (50, 95)} if values else {}

    return {
        "answered": sum(answer.status == 200 for answer in answers),
        "seconds": round(seconds, 3),
        "tokens": sum(answer.tokens for answer in answers),
        "tokens_per_second": round(sum(answer.tokens for answer in answers) / seconds, 1),
        "first_token_seconds": quantiles([answer.first for answer in answers if answer.first is not None]),
        "answer_seconds": quantiles([answer.seconds for answer in answers if answer.status == 200]),
    }


@contextmanager
def server(run: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The run served on a free port as a user would, and its address. The run's own traffic stays as it is."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / run.resolve().name, Path(name) / "log"
        folder.mkdir()
        for entry in run.resolve().iterdir():
            if entry.name != "7-monitor":
                (folder / entry.name).symlink_to(entry)
        options = ["--port", "0", "--batch", str(BATCH), "--queue", "4096", "--grace", "600"]
        command = [sys.executable, "-m", "luthier", "serve", str(folder), *options]
        with (
            log.open("w") as said,
            subprocess.Popen(command, stdout=said, stderr=said, text=True, env=environment) as process,
        ):
            try:
                while not (found := re.search(r"at (http://\S+)/v1", log.read_text())):
                    if process.poll() is not None:
                        raise SystemExit(log.read_text())
                    time.sleep(0.1)
                yield process, found[1]
            finally:
                process.kill()


async def measure(run: Path, streams: int, tokens: int, waves: int) -> dict[str, Any]:
    """Everything, against a server of the run."""
    prompts = [input_text(record) for record in Shard(run / "1-data" / "test").records]
    with server(run) as (process, url):
        limits = Limits(max_connections=None, max_keepalive_connections=0)
        async with AsyncClient(base_url=url, timeout=None, limits=limits) as client:
            load = Load(client, psutil.Process(process.pid), tokens)
            listed = (await client.get("/v1/models")).json()["data"]
            names = [m["id"] for m in listed if "/" in m["id"] or m["lineage"]["variant"] == "base"]
            jobs = [Job(i, names[i % len(names)], prompts[i // len(names) % len(prompts)]) for i in range(streams)]
            watch, alone = Stopwatch(), [await load.ask(job) for job in jobs]
            refused = next((answer.text for answer in alone if answer.status != 200), None)
            if refused:
                raise SystemExit(f"alone already it was not answered: {refused}")
            found: dict[str, Any] = {"models": names, "alone": rates(alone, watch.seconds), "waves": []}
            for _ in range(waves):
                found["waves"].append(await load.wave(jobs, alone))
                print(found["waves"][-1], flush=True)
            peaks = [wave["peak_rss_bytes"] for wave in found["waves"]]
            stopped = await load.interrupted(jobs, alone)
            stopped["exit_code"] = await asyncio.to_thread(process.wait, 60)
    return {**found, "memory_growth": round(peaks[-1] / peaks[min(WARM, waves - 1)] - 1, 4), "sigterm": stopped}


def failures(found: dict[str, Any], streams: int) -> Iterator[str]:
    """What is not as it must be."""
    for number, wave in enumerate(found["waves"], 1):
        if wave["answered"] != streams or wave["as_alone"] != streams:
            yield f"wave {number}: {wave['answered']} of {streams} answered, {wave['as_alone']} as alone"
    if found["memory_growth"] > GROWTH:
        yield f"the server's memory grew by {found['memory_growth']:.1%}"
    stopped = found["sigterm"]
    if stopped["of_these_finished"] != stopped["began_before"] or stopped["as_alone"] != stopped["finished"]:
        yield f"SIGTERM broke off what ran: {stopped}"
    if stopped["lost"] or stopped["exit_code"] or not set(stopped["late"]) <= {"503", "gone"}:
        yield f"SIGTERM was not told to everybody: {stopped}"


def tutor() -> Path:
    """The newest finished run of the recipe `tutor`."""
    found = next((entry.folder for entry in entries() if (entry.name, entry.status) == ("tutor", "done")), None)
    if found is None:
        raise SystemExit("there is no finished run of recipes/tutor.yaml: run it, or name another run")
    return Path(found)


def main() -> None:
    """Serve, load, stop, write down; exit code 1 where something was lost, mixed up, or grew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--waves", type=int, default=24)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.smoke:
            from tests.toy_served import make_run

            run = make_run(Path(name))
        else:
            run = find(asked.run) if asked.run else tutor()
        found = asyncio.run(measure(run, asked.streams, asked.tokens, asked.waves))
    print(found["sigterm"], f"memory {found['memory_growth']:+.1%}")
    if not asked.smoke:
        figures = {"run": run.resolve().name, "streams": asked.streams, "new_tokens": asked.tokens, "batch": BATCH}
        write("serve", "concurrent streams over one base and its adapters, then SIGTERM", {**figures, **found})
    wrong = list(failures(found, asked.streams))
    if wrong:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()

"""Training on one CUDA GPU: Luthier's engine beside TRL as it comes and TRL tuned, on Llamas with random weights.

Sizes 1B and 8B, LoRA on all linear layers and (1B) full fine-tuning, bf16; about 16,000 tokens a step, in sequences
of one length (2,048 or 8,192) and of the mixed lengths that people have. Each side and size runs as a process of its
own, so that a lack of memory or a fault costs that one alone. Needs no network: what is not installed may lie on
PYTHONPATH.

Usage: python -m benchmarks.bench_gpu [--out FILE] [--only TEXT ...] [--minutes 8.5] [--tiny] [--profile]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

CASES = [("1b", "lora"), ("8b", "lora"), ("1b", "full")]
NAMES = ("TRL default", "TRL tuned", "Luthier")
STEPS = {"1b": (2, 5), "8b": (1, 3), "tiny": (1, 1)}  # steps that are not timed, and that are
LONGEST = 0.3  # share of the whole time that one case may take
MARK = "@@ "  # before a line of results in a child's output
# shares of a step held at once, tried until one fits; 0: checkpointing instead
MICRO = {"TRL default": (1,), "TRL tuned": (1, 2, 4, 8, 0), "Luthier": (1, 2, 4, 8, 0)}


def main() -> None:
    """Parse, and be the parent or one of its children."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--only", nargs="*", default=[], help="cases whose name holds one of these: '8b lora Luthier'"
    )
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--tiny", action="store_true", help="a toy on the CPU, to try the script itself")
    parser.add_argument("--profile", action="store_true", help="Luthier's last step shows where its time goes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(**json.loads(asked.child))
    elif asked.tiny or gpu_is_there():
        parent(asked)
    else:
        sys.exit("no GPU that torch can use: --tiny tries the script itself on the CPU")


def gpu_is_there() -> bool:
    """Whether torch sees a GPU; asked in a process of its own, for this one must hold nothing of it."""
    asked = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asked]).returncode == 0


def parent(asked: Any) -> None:
    """Run every case within the time, write and print what came."""
    end = time.monotonic() + 60 * asked.minutes
    if asked.profile:
        os.environ["BENCH_GPU_PROFILE"] = "1"
    cases = [("tiny", "lora"), ("tiny", "full")] if asked.tiny else CASES
    found: list[dict[str, Any]] = run_child({"size": "tiny", "kind": "peak", "side": "", "tiny": asked.tiny}, end)
    machine = found[0] if found else {}
    results = []
    for size, kind in cases:
        for side in NAMES:
            name = f"{size} {kind} {side}"
            if asked.only and not any(text in name for text in asked.only):
                continue
            until = min(end, time.monotonic() + LONGEST * 60 * asked.minutes)
            for row in run_child({"size": size, "kind": kind, "side": side, "tiny": asked.tiny}, until):
                results.append({"size": size, "kind": kind, "side": side, **row})
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            body = {"machine": machine, "results": with_shares(results, machine.get("matmul_peak"))}
            if asked.out:  # after every case: what stands is not lost with what follows
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                asked.out.write_text(json.dumps(body, indent=1))
    print(json.dumps({"machine": machine, "results": with_shares(results, machine.get("matmul_peak"))}, indent=1))


def run_child(case: dict[str, Any], end: float) -> list[dict[str, Any]]:
    """What a child reports until it ends or the time is up."""
    left = end - time.monotonic()
    if left < 10:
        return [{"error": "no time left"}]
    command = [sys.executable, "-m", "benchmarks.bench_gpu", "--child", json.dumps(case)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    env.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=left, env=env)
        text, problem = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as error:
        text, problem = (error.stdout or b"").decode(errors="replace"), "out of time"
    found = [json.loads(line[len(MARK) :]) for line in text.splitlines() if line.startswith(MARK)]
    if problem:
        found.append({"error": f"{problem}: {text[-1500:]}"})
    return found


def child(size: str, kind: str, side: str, tiny: bool) -> None:
    """One side of one size on all workloads, a line each; or the machine's peak."""
    import torch

    from benchmarks.train.gpu_work import matmul_peak, workloads

    device = torch.device("cpu" if tiny or not torch.cuda.is_available() else "cuda")
    if kind == "peak":
        tell(device_facts(device) | {"matmul_peak": matmul_peak(device)})
        return
    for workload in workloads(size):
        tell({"workload": workload.name} | measured(size, kind == "full", side, workload, device))


def measured(size: str, full: bool, side: str, workload: Any, device: Any) -> dict[str, Any]:
    """One workload, with the largest share of a step at once that fits."""
    import torch

    from benchmarks.train.gpu_sides import SIDES
    from benchmarks.train.gpu_work import config, emptied, operations

    warm, timed = STEPS[size]
    profiling = "BENCH_GPU_PROFILE" in os.environ and side == "Luthier"
    steps = workload.steps(warm + timed + profiling, config(size).vocab_size)
    useful = operations(size, steps, full)
    for micro in MICRO[side]:
        problem = None
        with emptied():
            try:
                clock, how = SIDES[side](size, steps, full, device, micro)
            except torch.OutOfMemoryError:
                problem = "out of memory"
            except Exception:
                return {"error": traceback.format_exc()[-1500:]}
        if problem is None:
            break
    else:
        return {"error": f"out of memory whatever is tried: {MICRO[side]}"}
    tokens = [sum(len(row) for row in step) for step in steps]
    rows = list(zip(tokens, useful, clock.seconds, strict=True))[warm : warm + timed]
    return {
        "how": how,
        "micro": micro,
        "tokens_per_second": statistics.median(t / s for t, _, s in rows),
        "useful_per_second": statistics.median(o / s for _, o, s in rows),
        "step_seconds": [round(s, 4) for s in clock.seconds],
        "tokens_per_step": tokens,
        "padded_share": 1 - sum(tokens) / sum(len(step) * max(map(len, step)) for step in steps),
        "peak_bytes": clock.peak(),
        "losses": clock.losses,
        **({"kernels": clock.kernels} if profiling else {}),
    }


def device_facts(device: Any) -> dict[str, Any]:
    """What the figures depend on."""
    import inspect
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {}
    for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "flash-attn", "liger-kernel"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "-"
    try:
        from torch.nn.attention.varlen import varlen_attn

        varlen = str(inspect.signature(varlen_attn))
    except ImportError:
        varlen = "-"
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return {"device": name, "versions": versions, "varlen_attn": varlen}


def with_shares(results: list[dict[str, Any]], peak: float | None) -> list[dict[str, Any]]:
    """Each result with its share of the matmul peak."""
    return [
        {**row, "mfu": row["useful_per_second"] / peak} if peak and "useful_per_second" in row else row
        for row in results
    ]


def tell(row: dict[str, Any]) -> None:
    """A line for the parent."""
    print(MARK + json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

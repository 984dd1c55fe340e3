"""The command `luthier`: its verbs in the order of the flow."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import typer

from luthier.cli import (
    chat,
    check,
    compare,
    data,
    doctor,
    evaluate,
    export,
    generate,
    keys,
    monitor,
    plan,
    quickstart,
    resume,
    run,
    runs,
    schema,
    serve,
    train,
    verify,
)
from luthier.core.errors import USER

app = typer.Typer(
    name="luthier",
    help="Fine-tune a language model in seven stages, each proved on the way.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb, words in (
    (data.data, "stage 1: rows read, cleaned, split"),
    (check.check, "the preflight; trains nothing"),
    (plan.plan, "check, then memory, time and cost"),
    (train.train, "stages 1 to 4: train every variant"),
    (evaluate.evaluate, "stage 5 on what is trained, the report"),
    (export.export, "stage 6: exports, each proved equal"),
    (chat.chat, "talk to a trained model"),
    (generate.generate, "a file of prompts answered"),
    (serve.serve, "runs behind OpenAI's API"),
    (keys.keys, "who may use the server"),
    (monitor.monitor, "stage 7: the traffic of a served run"),
    (run.run, "all stages of a recipe"),
    (resume.resume, "go on with a run where it stopped"),
    (runs.runs, "list the runs"),
    (compare.compare, "scores of one run or several"),
    (verify.verify, "checksums and parity of a run, again"),
    (doctor.doctor, "look at this machine"),
    (schema.schema, "what a recipe may say"),
    (quickstart.quickstart, "a small summariser, in minutes"),
):
    app.command(short_help=words)(verb)

# the parent of typer's own argument errors, which typer does not export under its name
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", help="The version, and nothing else."),
) -> None:
    """Fine-tune a language model in seven stages, each proved on the way."""
    if show:
        from luthier import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """The entry point: settings that must stand before torch is imported, then the verb."""
    # threads that wait for work sleep: several times faster on a machine that others use too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # in bf16 oneDNN keeps the kernels of 1,024 matrix shapes, and batches of text have a new shape each: gigabytes
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # Luthier draws its own bars
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        return app(arguments, prog_name="luthier", standalone_mode=False) or 0
    except UsageError as error:
        return _usage(error, "--json" in arguments)


def _usage(error: Exception, as_json: bool) -> int:
    """An argument that typer refuses, said as every other error is."""
    from luthier.cli.verb import fail

    try:
        context: typer.Context | None = getattr(error, "ctx", None)
        help_of = context.command_path if context else "luthier"
        fail(f"{error.format_message().rstrip('.')}: see `{help_of} --help`", USER, as_json, {})  # type: ignore[attr-defined]
    except typer.Exit as leave:
        return leave.exit_code


def _stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C from a machine."""
    raise KeyboardInterrupt

"""The house rules that a machine can hold: layers, sizes, types, docstrings, and docs that say what is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from luthier.cli.app import app
from luthier.methods import METHODS
from luthier.objectives import OBJECTIVES
from luthier.recipe.keys import table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "luthier"
FILES = sorted(PACKAGE.rglob("*.py"))
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def public(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes at the top of a module, and the methods of its public classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


def test_imports_point_one_way():
    ran = tool("lint-imports")
    assert ran.returncode == 0, ran.stdout


def test_the_code_is_formatted_and_clean():
    checked, formatted = tool("ruff", "check", "src", "tests"), tool("ruff", "format", "--check", "src", "tests")
    assert checked.returncode == 0, checked.stdout
    assert formatted.returncode == 0, formatted.stdout


def test_files_and_functions_are_small():
    assert median(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) <= 200
    lengths = [node.end_lineno - node.lineno + 1 for path in FILES for node in functions(path)]
    assert sum(length <= 50 for length in lengths) >= 0.9 * len(lengths)


def test_public_functions_are_documented_and_typed():
    missing = []
    for path in FILES:
        for node in public(path):
            where = f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"
            declared = isinstance(node, ast.FunctionDef) and ast.unparse(node.body[0]) == "..."  # of a protocol
            if ast.get_docstring(node) is None and not declared:
                missing.append(f"{where} has no docstring")
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
                if untyped or node.returns is None:
                    missing.append(f"{where} has no type for {untyped or 'its result'}")
    assert not missing, "\n".join(missing)


def test_every_module_says_what_it_is_for():
    silent = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent


def names_said(source: str) -> list[str]:
    """The objectives and methods that code names: in a text of its own, or by importing their file."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            paths = [f"{module}.{alias.name}".split(".") for alias in node.names]
            found += [part for path in paths if {"methods", "objectives"} & set(path) for part in path]
    return [name for name in found if name in {*METHODS, *OBJECTIVES}]


def test_the_loop_knows_no_objective_and_no_method_by_name():
    for folder in ("train", "engine"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            assert not names_said(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    "planted",
    [
        "if settings.method.name == 'lora': pass",
        'rate = {"prompt": 0.3}.get(name, 1.0)',
        'loss = OBJECTIVES["sft"].loss',
        "from luthier.methods.lora import LORA",
        "from luthier.objectives import text",
        "import luthier.methods.full",
    ],
)
def test_a_name_planted_in_the_loop_is_found(planted):
    loop = (PACKAGE / "train" / "loop.py").read_text(encoding="utf-8")
    assert len(names_said(f"{loop}\n{planted}\n")) == 1


def test_the_command_line_imports_nothing_heavy_at_its_top():
    for path in (PACKAGE / "cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("torch", "transformers", "peft") for name in names), path


def test_no_handler_swallows_everything():
    """Five places may: the command line's last, which writes the traceback to a file; where a training hands its
    figures to a tracker, other people's code that must never end it; a worker of the data stage, which hands on what
    its work raises to the process that asked; and the two that try faster blocks, whose compilers raise what they
    like, and say why they are left out."""
    everything = ("", "Exception", "BaseException")
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and (ast.unparse(node.type) if node.type else "") in everything
    ]
    tried = ["engine/accelerated/accelerate.py", "engine/compiled.py"]
    assert sorted(found) == ["cli/verb.py", "data/workers.py", *tried, "trackers/relay.py"]


def test_the_docs_list_exactly_the_keys_of_the_schema():
    assert table() in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_the_docs_name_verbs_and_files_that_exist():
    verbs = {command.callback.__name__ for command in app.registered_commands}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"`[^`\n]+`|```.*?```", text, flags=re.S))
        for verb in re.findall(r"(?:^|[`\n$ ])luthier ([a-z]+)", code):
            assert verb in verbs, f"{page.name}: luthier {verb}"
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for recipe in re.findall(r"recipes/[\w./-]+\.yaml", text):
            assert (ROOT / recipe).exists(), f"{page.name}: {recipe}"


def test_make_has_the_targets_that_the_readme_names():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, flags=re.M), f"{page.name}: make {target}"


@pytest.mark.parametrize("name", ["torch", "transformers", "peft", "numpy", "pydantic", "typer"])
def test_what_is_tested_together_satisfies_what_is_asked_for(name):
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    wanted = re.search(rf'"{name}>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)
    pinned = re.search(rf"^{name}==([\d.]+)$", constraints, flags=re.M).group(1)
    assert [int(part) for part in pinned.split(".")] >= [int(part) for part in wanted.split(".")]

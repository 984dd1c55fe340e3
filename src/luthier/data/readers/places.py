"""A source as the recipe writes it -> its kind (builtin, file, folder, hub, dataset_info.json) and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from luthier.core.errors import UserError, did_you_mean
from luthier.core.files import digest, sha256
from luthier.core.paths import expand
from luthier.core.records import Origin
from luthier.data.readers import libraries
from luthier.data.readers.csv_rows import read_csv
from luthier.data.readers.dataset_info import entry_of
from luthier.data.readers.json_rows import read_json, read_jsonl
from luthier.data.readers.row import Bad, BadRow, Found, Row
from luthier.data.readers.text_rows import read_text

BUILTIN = "builtin:"
BUILTIN_ROWS = 1200  # made where the recipe does not say `rows`

FORMATS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".txt": read_text,
    ".parquet": libraries.read_parquet,
}


def read(name: str, source: str, seed: int, count: int | None = None) -> Iterator[Row | BadRow]:
    """The rows of one source; `count` is how many a builtin source makes, others give all they hold.

    Raises UserError where a whole file cannot be read, and where there is no row at all.
    """
    entry = entry_of(source)
    place = expand(source) if entry is None else entry.place
    empty = True
    for file, found in _all(place, seed, count):
        for number, values in found:
            empty = False
            origin = Origin(name, file, number)
            if isinstance(values, Bad):
                yield BadRow(origin, values.reason, values.raw)
            else:
                yield Row(origin, values)
    if empty:
        raise UserError(f"{place} holds no rows: give at least one")


def _all(place: str, seed: int, count: int | None) -> Iterator[tuple[str, Iterable[Found]]]:
    """Each file of a source (or the builtin or hub name) with what it holds."""
    if place.startswith(BUILTIN):
        yield place, _builtin(place, seed, count)
    elif libraries.is_hub_id(place):
        yield place, libraries.read_hub(place)
    elif libraries.is_saved_dataset(Path(place)):
        yield place, libraries.read_saved(Path(place))
    else:
        for file in _files(Path(place)):
            yield str(file), FORMATS[_suffix(file)](file)


def digests(source: str, seed: int, count: int | None = None) -> dict[str, str]:
    """What identifies a source: each file's SHA-256, a builtin's version, a hub id's revision, an entry's content."""
    entry = entry_of(source)
    if entry is not None:
        return {source: digest(entry.body), **digests(entry.place, seed)}
    place = expand(source)
    if place.startswith(BUILTIN):
        from luthier.data.builtin import VERSION

        return {place: f"version {VERSION}, seed {seed}, rows {start_rows(place, count)}"}
    if libraries.is_hub_id(place):
        return {place: libraries.hub_revision(place)}
    path = Path(place)
    if libraries.is_saved_dataset(path):
        return {str(p): sha256(p) for p in sorted(path.rglob("*")) if p.is_file()}
    return {str(file): sha256(file) for file in _files(path)}


def start_rows(source: str, count: int | None) -> int | None:
    """How many rows a source is asked for: a builtin makes that many; elsewhere None means all."""
    if count is None and source.startswith(BUILTIN):
        return BUILTIN_ROWS
    entry = entry_of(source) if count is None else None
    return count if entry is None else entry.rows


def _builtin(place: str, seed: int, count: int | None) -> Iterator[Found]:
    from luthier.data.builtin import NAMES, rows

    name = place.removeprefix(BUILTIN)
    if name not in NAMES:
        raise UserError(f"no builtin data is called '{name}': {did_you_mean(name, NAMES)}")
    yield from enumerate(rows(name, seed, start_rows(place, count) or BUILTIN_ROWS), 1)


def _suffix(path: Path) -> str:
    """The ending that tells the format, with .gz taken off."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _files(path: Path) -> list[Path]:
    """The file itself, or all readable files below a folder in the order of their names."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in FORMATS)
        if not found:
            raise UserError(f"the folder {path} holds no rows: put {', '.join(FORMATS)} files (also .gz) there")
        kinds = sorted({_suffix(p) for p in found})
        if len(kinds) > 1:
            raise UserError(
                f"the folder {path} holds {' and '.join(kinds)} files: name the files of one kind as sources"
            )
        return found
    if path.exists() and _suffix(path) not in FORMATS:
        raise UserError(f"{path} is of no known format: expected {', '.join(FORMATS)} (also .gz)")
    if not path.exists():
        start = "" if path.is_absolute() else f" in {Path.cwd()}, where the command was called"
        raise UserError(f"there is no file {path}{start}: {_near(path)}")
    return [path]


def _near(path: Path) -> str:
    """What to write instead of a path that does not exist."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either"
    others = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    return (
        did_you_mean(str(path), [str(path.parent / name) for name in others])
        if others
        else f"the folder {path.parent} is empty"
    )

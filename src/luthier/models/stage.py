"""Stage 2: the base resolved, loaded once and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from luthier.core.artefacts import Artefacts, Counts
from luthier.core.files import digest, sha256, write_json
from luthier.models.load import load_base
from luthier.models.resolve import Resolved, resolve
from luthier.models.weights import weight_files
from luthier.recipe.sections import ModelSection


def run(section: ModelSection, inputs: Artefacts, out: Path) -> Counts:
    """Write `base.json`: what the base is, its licence, its files' checksums, and a fingerprint of it all."""
    base = load_base(section.model, section.seed, half=torch.bfloat16)  # its numbers are not kept
    resolved = resolve(section.model)
    files = _checksums(resolved)
    embedding: Any = base.model.get_input_embeddings()
    output: Any = base.model.get_output_embeddings()
    description = {
        "name": base.name,
        "folder": str(resolved.folder),
        "revision": resolved.revision,
        "family": base.family,
        "encoder_decoder": base.encoder_decoder,
        "parameters": sum(parameter.numel() for parameter in base.model.parameters()),
        "context": base.context,
        "vocab_size": len(base.tokenizer),
        "embedding_rows": len(embedding.weight),
        "tied_embeddings": output.weight is embedding.weight,
        "packed": base.packed,
        "licence": licence(resolved.folder),
        "seed": section.seed if resolved.blank else None,
        "weights": {name: checksum for name, checksum in files.items() if name.endswith(".safetensors")},
    }
    fingerprint = digest([files, list(section.model.add_tokens), description["seed"]])
    write_json(out / "base.json", {**description, "fingerprint": fingerprint})
    return Counts()


def dependencies(section: ModelSection) -> dict[str, str]:
    """What the base depends on outside the run: its files' SHA-256, or its commit on the hub, which never changes."""
    resolved = resolve(section.model)
    return {resolved.name: resolved.revision} if resolved.revision else _checksums(resolved)


def _checksums(resolved: Resolved) -> dict[str, str]:
    """The SHA-256 of every file that shapes the model: configuration, tokenizer, weights."""
    paths = [path for path in resolved.folder.iterdir() if path.suffix in (".json", ".model", ".txt", ".jinja")]
    if not resolved.blank:
        paths += weight_files(resolved.folder)
    return {path.name: sha256(path) for path in sorted(paths)}


def licence(folder: Path) -> str | None:
    """The licence that the front matter of the folder's model card (README.md) names, if there is one."""
    card = folder / "README.md"
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        matter = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    named = matter.get("license") if isinstance(matter, dict) else None
    return str(named) if named else None

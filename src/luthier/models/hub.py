"""What is fetched from the Hugging Face hub: a snapshot's small files first, its weights when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luthier.core.errors import UserError

SMALL = ("*.json", "*.model", "*.txt", "*.jinja", "README.md")
WEIGHTS = ("*.safetensors",)


def fetch(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local folder of a hub snapshot with the files of these patterns; its name is the commit.

    UserError where the repository or revision does not exist, is gated, or cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download

    at = f"{repository}@{revision}" if revision else repository
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.GatedRepoError:
        problem = "asks for its licence to be accepted: do so on its page, then run `hf auth login`"
    except errors.RepositoryNotFoundError:
        problem = "is neither a folder here nor on the hub: check the spelling, or write ./folder"
    except errors.RevisionNotFoundError:
        problem = "has no such revision: write a branch, tag or commit that exists, or leave model.revision out"
    except errors.HFValidationError:
        problem = "is neither a folder here nor a hub id: write owner/name, ./folder or builtin:t5"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError):
        problem = (
            "is no folder here, was not downloaded before, and the hub cannot be reached: "
            "connect and unset HF_HUB_OFFLINE, or give the model's folder"
        )
    raise UserError(f"model.base: {at} {problem}")

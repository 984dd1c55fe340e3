"""What an export is to its user: loaded by plain transformers or PEFT, asked, and written down.

Run as a script in a process of its own, with a folder of requests as its argument. Nothing of Luthier is imported
here, so that nothing of Luthier can be needed. `token_facts` and `generation_facts` are shared with the other side of
the comparison.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoTokenizer, GenerationConfig

REQUEST, REPLY, LOGITS = "request.json", "reply.json", "logits.safetensors"
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
ADDED = ("content", "special", "normalized", "lstrip", "rstrip", "single_word")
PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def token_facts(tokenizer: Any) -> dict[str, Any]:
    """All of a tokenizer that can change what a model reads or where its answer ends, by name."""
    found = {
        "chat-template": tokenizer.chat_template,
        "added-tokens": {
            str(id): {name: getattr(token, name) for name in ADDED}
            for id, token in sorted(tokenizer.added_tokens_decoder.items())
        },
        "vocabulary": _digest(tokenizer.get_vocab()),
        "special-tokens": {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())},
        "padding-side": tokenizer.padding_side,
        "truncation-side": tokenizer.truncation_side,
        "longest-input": tokenizer.model_max_length,
        "clean-up": bool(tokenizer.clean_up_tokenization_spaces),
    }
    for name in SPECIAL:
        found[f"{name}-token"] = [getattr(tokenizer, f"{name}_token"), getattr(tokenizer, f"{name}_token_id")]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts = json.loads(backend.to_str())
        found |= {name.replace("_", "-"): parts[name] for name in PIPELINE}
        found["pieces"] = _digest({name: value for name, value in parts["model"].items() if name != "vocab"})
    return found


def generation_facts(config: GenerationConfig) -> dict[str, Any]:
    """Every setting of generation that is not transformers' default."""
    return {name: value for name, value in config.to_diff_dict().items() if name != "transformers_version"}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load(request: dict[str, Any]) -> tuple[Any, Any]:
    """The model and the tokenizer, by the lines that the export's README gives."""
    auto, folder = getattr(transformers, request["auto"]), request["folder"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if request["base"] is None:
        return auto.from_pretrained(folder), tokenizer
    from peft import PeftModel

    base = auto.from_pretrained(request["base"], dtype=torch.float32)
    base.generation_config = GenerationConfig.from_pretrained(folder)
    return PeftModel.from_pretrained(base, folder), tokenizer


def rendered(tokenizer: Any, prompt: dict[str, Any]) -> list[int]:
    """The ids of a prompt: of its messages by the chat template, or of its text."""
    if (
        "messages" in prompt and tokenizer.chat_template is None
    ):  # written somehow, and named as lost by `token_facts`
        prompt = {"text": "\n".join(message["content"] for message in prompt["messages"])}
    if "messages" in prompt:
        return tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, return_dict=False)
    return tokenizer(prompt["text"])["input_ids"]


def logits(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """The logits (N, V) at the row's N positions, in fp32 on the CPU."""
    inputs = {name: torch.tensor([ids], device=model.device) for name, ids in row["inputs"].items()}
    spoken = row["inputs"].get("decoder_input_ids", row["inputs"]["input_ids"])
    found = model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"])).logits[0]
    own = found[len(found) - len(spoken) :]  # PEFT gives the virtual tokens' logits, too
    return own[torch.tensor(row["at"], device=own.device)].float().cpu()


def answer(model: Any, ids: list[int], encoder_decoder: bool, most: int) -> list[int]:
    """A greedy answer of at most `most` tokens, the one that ended it included."""
    given = torch.tensor([ids], device=model.device)
    said = model.generate(
        input_ids=given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=most
    )[0].tolist()
    return said[1:] if encoder_decoder else said[len(ids) :]


@torch.no_grad()
def examine(folder: Path) -> None:
    """Carry out the request in the folder; the reply is written last."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    model, tokenizer = load(request)
    model = model.to(request["device"]).eval()
    prompts = [rendered(tokenizer, prompt) for prompt in request["prompts"]]
    rows = [logits(model, row) for row in request["rows"]]
    save_file({"logits": torch.cat(rows)}, folder / LOGITS)
    reply = {
        "tokens": token_facts(tokenizer),
        "generation": generation_facts(model.generation_config),
        "prompts": prompts,
        "texts": [tokenizer(text)["input_ids"] for text in request["texts"]],
        "answers": [
            answer(model, prompts[at], request["encoder_decoder"], request["most"]) for at in request["asked"]
        ],
    }
    (folder / REPLY).write_text(json.dumps(reply), encoding="utf-8")


def main() -> None:
    """Carry out every request of the folder named on the command line."""
    for request in sorted(Path(sys.argv[1]).glob(f"*/{REQUEST}")):
        if not (request.parent / REPLY).exists():
            examine(request.parent)


if __name__ == "__main__":
    main()

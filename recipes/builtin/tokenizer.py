"""Train a builtin model's tokenizer on the generated corpus: `python recipes/builtin/tokenizer.py t5|llama|bloom`.

A byte-level BPE: every byte is a token, so that nothing is unknown and decoding gives back exactly what was encoded,
line breaks and foreign scripts included. Digits stand alone, so that numbers are always spelt the same way, and a
speaker's mark such as `#Person1#:` becomes one token, with the line break or space before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import luthier
from luthier.data.builtin import rows

FOLDER = Path(luthier.__file__).parent / "models" / "builtin"
PAD, STOP, UNKNOWN, BEGIN = "<pad>", "</s>", "<unk>", "<s>"
SENTINELS = [f"<extra_id_{i}>" for i in range(32)]
# a conversation in words that every base has read, so that adapters need to train no token of its own
CHAT = """{{ bos_token }}{% for message in messages %}\
{{ {"system": "System", "user": "User", "assistant": "Assistant"}[message["role"]] }}: {{ message["content"] }}\
{{ eos_token if message["role"] == "assistant" else "" }}
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


@dataclass(frozen=True)
class Kind:
    """What sets the tokenizers apart: special tokens after the common three, the frame of a text, a chat template."""

    specials: tuple[str, ...]
    framed: str
    chat: str | None = None


KINDS = {
    "t5": Kind(tuple(SENTINELS), f"$A {STOP}"),
    "llama": Kind((BEGIN,), f"{BEGIN} $A", CHAT),
    "bloom": Kind((BEGIN,), f"{BEGIN} $A"),
}
PIECES = "|".join(
    [
        r"[ \n]?#Person[12]#:?",  # who speaks
        r"'(?:s|t|re|ve|m|ll|d)\b",  # it's, don't
        r" ?\p{L}[\p{L}\p{M}]*",  # a word with the space before it
        r"\p{N}",  # one digit
        r" ?[^\s\p{L}\p{N}]+",  # punctuation
        r"\s+(?!\S)|\s+",  # other white space
    ]
)


def train(texts: Iterable[str], kind: Kind, size: int = 4096) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` tokens: pad 0, stop 1, unknown 2, the kind's own, 256 bytes, then merges."""
    specials = (PAD, STOP, UNKNOWN, *kind.specials)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    framing = [(token, tokenizer.token_to_id(token)) for token in (STOP, BEGIN) if token in kind.framed]
    if framing:
        tokenizer.post_processor = processors.TemplateProcessing(single=kind.framed, special_tokens=framing)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=STOP,
        unk_token=UNKNOWN,
        **{"extra_special_tokens": SENTINELS} if BEGIN not in specials else {"bos_token": BEGIN},
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    made.chat_template = kind.chat
    return made


def marks() -> list[str]:
    """Each form of a speaker's mark, often enough to become a token even if dialogues seldom have it."""
    return [f"{gap}#Person{n}#{colon}" for gap in ("", " ", "\n") for n in (1, 2) for colon in ("", ":")] * 1000


def corpus(seed: int, count: int) -> Iterator[str]:
    """The text of each row of the generated corpus."""
    for row in rows("corpus", seed, count):
        yield row["text"]


def main() -> None:
    """Train, save beside the builtin model, and say how many bytes a token holds on rows of another seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=40_000)
    options = parser.parse_args()
    folder = FOLDER / options.model
    tokenizer = train(chain(marks(), corpus(options.seed, options.rows)), KINDS[options.model])
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)  # a third of the size
    texts = list(corpus(options.seed + 1, 500))
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(tokenizer)} tokens, {size / tokens:.2f} bytes per token, saved in {folder}")


if __name__ == "__main__":
    main()

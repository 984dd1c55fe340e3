"""Small tokenizers and chat templates, made on the spot."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from luthier.core.records import Conversation, Message, Origin, PromptCompletion
from luthier.core.shards import IGNORED, Example

ORIGIN = Origin("test", "test.jsonl", 1)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% set s = '' %}{% if messages[0].role == 'system' %}"
    "{% set s = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '' if loop.first else bos_token }}[INST] "
    "{{ s if loop.first else '' }}{{ m.content.strip() }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('unknown role') }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def bytes_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """A token for every byte: readable masks, and text that always comes back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<s>", "</s>", *MARKS)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


def masked(tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    """The example as text, what is trained in ⟦brackets⟧."""
    text, inside = "", False
    for token, label in zip(example.input_ids.tolist(), example.labels.tolist(), strict=True):
        assert label in (IGNORED, token)
        if (label != IGNORED) != inside:
            inside = not inside
            text += "⟦" if inside else "⟧"
        text += tokenizer.decode([token])
    return text + ("⟧" if inside else "")


def pair(prompt: str, completion: str) -> PromptCompletion:
    return PromptCompletion(prompt, completion, ORIGIN)


def talk(*turns: str, system: str | None = None) -> Conversation:
    """A conversation of turns by user and assistant in alternation."""
    messages = [Message(("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns)]
    return Conversation(tuple([Message("system", system)] * (system is not None) + messages), ORIGIN)

"""Small tokenizers and chat templates, made on the spot."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from luthier.core.records import Conversation, Message, Origin, PromptCompletion, ToolCall
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
# What chat templates do with tools: each stands for a family's habit, without its prose.
QWEN = (
    "{% if tools %}<|im_start|>system\n{{ messages[0].content if messages[0].role == 'system' else '' }}"
    "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<result>{{ m.content }}</result><|im_end|>\n"
    "{% elif m.role != 'system' or not tools %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls %}<call>{{ call.function | tojson }}</call>{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA31 = (  # one call a message; what a tool says is put in quotes
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}{% for m in messages %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('only single calls') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}<|eot_id|>'
    "{% else %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>\n\n"
    "{{ m.content | tojson if m.role == 'tool' else m.content }}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (  # calls have ids of nine characters
    "{{ bos_token }}{% if tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% elif m.role == 'tool' %}"
    "[RESULT]{{ {'content': m.content, 'call_id': m.tool_call_id} | tojson }}[/RESULT]{% elif m.tool_calls %}[CALLS]["
    "{% for c in m.tool_calls %}{{ raise_exception('ids') if c.id is undefined or c.id | length != 9 }}"
    '{{ {"name": c.function.name, "arguments": c.function.arguments, "id": c.id} | tojson }}'
    "{{ '' if loop.last else ', ' }}{% endfor %}]{{ eos_token }}{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
DEEPSEEK = (  # a message of calls has empty content, and arguments are text
    "{{ bos_token }}{{ '[tools]' ~ (tools | tojson) if tools else '' }}{% for m in messages %}"
    "{% if m.tool_calls is defined %}{{ 'Assistant:' + m.content }}{% for c in m.tool_calls %}"
    "{{ '<call>' + c.function.name + '\n' + c.function.arguments + '</call>' }}{% endfor %}{{ eos_token }}"
    "{% elif m.role == 'assistant' %}Assistant:{{ m.content }}{{ eos_token }}"
    "{% elif m.role == 'tool' %}<result>{{ m.content }}</result>{% else %}User:{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
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


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def tool_talk(**last: Any) -> Conversation:
    """A question, a call of `weather`, what it says, and the answer."""
    call = ToolCall("weather", {"city": "Rom", "days": 2}, "call00001")
    messages = (
        Message("user", "a"),
        Message("assistant", "", calls=(call,)),
        Message("tool", '{"sun": true}', name="weather", call_id="call00001"),
        Message("assistant", "b", **last),
    )
    return Conversation(messages, ORIGIN, tools=(WEATHER,))


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

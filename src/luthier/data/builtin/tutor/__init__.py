"""The tutor's questions, each with its one right answer, made from a seed.

`mathematics`, `words`, `translation` and `knowledge` ask about what the pretraining corpus tells: the same sums,
word lists, French pairs and facts. `asking` writes their rows.
"""

from luthier.data.builtin.tutor.knowledge import knowledge_rows
from luthier.data.builtin.tutor.mathematics import mathematics_rows
from luthier.data.builtin.tutor.translation import translation_rows
from luthier.data.builtin.tutor.words import words_rows

__all__ = ["knowledge_rows", "mathematics_rows", "translation_rows", "words_rows"]

"""What a summary tells, in a speaker's mouth: pronouns, verbs, and what must stay as it is."""

import pytest

from luthier.data.builtin.recap import spoken


@pytest.mark.parametrize(
    ("clause", "by_p", "by_q"),
    [
        ("P wants a dog", "I want a dog", "you want a dog"),
        (
            "P asks Q to mind Q's own business",
            "I ask you to mind your own business",
            "you ask me to mind my own business",
        ),
        (
            "P says that Q's dog barks at P",
            "I say that your dog barks at me",
            "you say that my dog barks at you",
        ),
        ("Q agrees and wants it back", "you agree and want it back", "I agree and want it back"),
        ("P has tried it and is tired", "I have tried it and am tired", "you have tried it and are tired"),
        (
            "P never goes there but does not mind",
            "I never go there but do not mind",
            "you never go there but do not mind",
        ),
        ("P and Q agree to plant both", "we agree to plant both", "we agree to plant both"),
        (
            "it is too late, and they will walk",
            "it is too late, and we will walk",
            "it is too late, and we will walk",
        ),
        ("the shop opens at nine and closes at six", "the shop opens at nine and closes at six", None),
        (
            "Q gives P a card because P was kind",
            "you give me a card because I was kind",
            "I give you a card because you were kind",
        ),
        ("P tells Q about the birds that Q asks about", "I tell you about the birds that you ask about", None),
    ],
)
def test_a_clause_is_told_by_either(clause: str, by_p: str, by_q: str | None) -> None:
    assert spoken(clause, "P") == by_p
    if by_q is not None:
        assert spoken(clause, "Q") == by_q

"""A row beside one that is longer than the model's first length computes what it computes alone."""

from __future__ import annotations

import torch
import transformers as hf

from luthier.models.attention import Boundaries, packed
from luthier.models.packing import adopt
from tests.models.toy import GQA, PART, V

LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}


def test_a_long_sequence_does_not_change_a_short_one_beside_it():
    torch.manual_seed(0)
    sizes = {"original_max_position_embeddings": 16, "max_position_embeddings": 256}
    model = hf.Phi3ForCausalLM(hf.Phi3Config(**GQA, **sizes, rope_parameters=PART | LONG)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    assert adopt(model)
    rows = [torch.randint(2, V, (n,)) for n in (10, 20, 16, 17)]
    alone = [model(ids[None], use_cache=False).logits[0] for ids in rows]
    positions = torch.cat([torch.arange(len(ids)) for ids in rows])[None]
    with packed(Boundaries([len(ids) for ids in rows])):
        together = model(torch.cat(rows)[None], position_ids=positions, use_cache=False).logits[0]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)

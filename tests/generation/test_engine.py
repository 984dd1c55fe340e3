"""The queue: every answer is the one given alone, whoever shares the batch, joins or leaves."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import torch

from luthier.core.errors import UserError
from luthier.generation.engine import Busy, Closed, Engine
from luthier.generation.generate import generate
from luthier.generation.request import Failed, Piece, Request, Sampling
from tests.generation.house import CONTEXT, add, ask, greedy, prompts, said, served, text, trained
from tests.toy_models import FAMILIES, VOCABULARY, toy_model

NEW = (12, 3, 20, 1, 7, 16, 9)
LONG = 10**6


def alone(model, prompt, new, prefix=()) -> str:
    return text(generate(model, [prompt], pad=0, stop=(), max_new_tokens=new, prefix=prefix)[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("places", [1, 3, 16])
def test_answers_of_a_queue_are_those_given_alone(family, places):
    model = toy_model(family)
    expected = [alone(model, prompt, new) for prompt, new in zip(prompts(), NEW, strict=True)]
    with Engine(served(family), max_batch=places) as engine:
        tickets = [ask(engine, prompt, greedy(new)) for prompt, new in zip(prompts(), NEW, strict=True)]
        assert [said(ticket) for ticket in tickets] == expected
    assert engine.waiting == engine.running == 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bloom", "qwen2"])
def test_adapters_in_one_queue_answer_as_each_does_alone(family, tmp_path):
    held = served(family)
    parts = {"": (toy_model(family), ())}
    for name, method, options in (
        ("first", "lora", {"rank": 4}),
        ("second", "lora", {"rank": 2, "alpha": 7}),
        ("soft", "prompt", {"tokens": 5}),
        ("softer", "prompt", {"tokens": 2, "init": "random"}),
        ("whole", "full", {}),
    ):
        made = trained(family, method, len(parts), tmp_path / name, **options)
        add(held, name, method, tmp_path / name)
        parts[name] = made.model, made.prefix
    asked = [(name, prompt) for prompt in prompts()[:4] for name in parts]
    expected = [alone(parts[name][0], prompt, 8, parts[name][1]) for name, prompt in asked]
    assert len(set(expected)) > 18  # of 24: adapters change answers
    with Engine(held, max_batch=7) as engine:
        tickets = [ask(engine, prompt, greedy(8), name or None) for name, prompt in asked]
        assert [said(ticket) for ticket in tickets] == expected
        assert len(engine._lanes) == 2  # full weights apart; all else shares its batches
    untouched = toy_model(family).state_dict()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in held.base.model.state_dict().items())


def test_an_adapter_that_cannot_share_a_batch_has_one_of_its_own(tmp_path):
    """DoRA scales each weight row: no thin product beside the layer computes that."""
    import peft

    model = toy_model("llama")
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
    peft.get_peft_model(model, settings).save_pretrained(tmp_path / "dora")
    held = served("llama")
    add(held, "dora", "lora", tmp_path / "dora")
    assert held.adapters["dora"].model is not held.mixer.model and held.adapters["dora"].number is None
    with Engine(held) as engine:
        tickets = [ask(engine, prompt, greedy(5), name) for prompt in prompts() for name in ("dora", None)]
        # a fresh adapter computes what the base does
        assert [said(ticket) for ticket in tickets[::2]] == [said(ticket) for ticket in tickets[1::2]]


def test_many_askers_at_once_get_their_own_answers(tmp_path):
    """100 threads, 5 models, batches of 8."""
    held = served("llama")
    models = {"": (toy_model("llama"), ())}
    for seed in range(1, 5):
        name = f"lora-{seed}"
        made = trained("llama", "lora", seed, tmp_path / name, rank=2)
        add(held, name, "lora", tmp_path / name)
        models[name] = made.model, ()
    names = list(models)
    asked = [(names[i % 5], prompts()[i % 7], 1 + i % 13) for i in range(100)]
    expected = [alone(models[name][0], prompt, new) for name, prompt, new in asked]
    answers = [""] * 100
    with Engine(held, max_batch=8) as engine:

        def one(i: int) -> None:
            name, prompt, new = asked[i]
            answers[i] = said(ask(engine, prompt, greedy(new), name or None))

        threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == expected


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_seed_gives_the_same_answer_whatever_else_is_in_the_batch(family):
    sampling = Sampling(10, temperature=1.5, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=3)
    with Engine(served(family), max_batch=5) as engine:
        first = said(ask(engine, prompts()[1], sampling))
        crowd = [ask(engine, prompt, Sampling(15, temperature=2.0)) for prompt in prompts()]
        again = [said(ask(engine, prompts()[1], sampling)) for _ in range(3)]
        assert again == [first] * 3
        assert all(said(ticket) for ticket in crowd)
        assert said(ask(engine, prompts()[1], Sampling(10, temperature=1.5, seed=4))) != first


def test_pieces_come_one_by_one_and_count_tokens():
    with Engine(served("llama")) as engine:
        ticket = ask(engine, prompts()[0], greedy(6))
        pieces = list(ticket)
        assert ticket.prompt_tokens == 3
    assert [piece.tokens for piece in pieces] == [1] * 6
    assert [piece.finish for piece in pieces] == [None] * 5 + ["length"]


def test_stop_tokens_and_stop_strings_end_an_answer():
    held = served("llama")
    (whole,) = generate(toy_model("llama"), [prompts()[2]], pad=0, stop=(), max_new_tokens=20)
    with Engine(held) as engine:
        stop = text(whole[5:7])
        at = text(whole).index(stop)
        pieces = list(ask(engine, prompts()[2], greedy(20, stop=("never there", stop))))
        assert "".join(piece.text for piece in pieces) == text(whole)[:at]
        assert pieces[-1].finish == "stop" and sum(piece.tokens for piece in pieces) == at + len(stop)
    ends = whole[4]
    object.__setattr__(held.itself.prompts.template.renderer, "stops", (ends,))
    with Engine(held) as engine:
        pieces = list(ask(engine, prompts()[2], greedy(20)))
    until = whole.index(ends)
    assert "".join(piece.text for piece in pieces) == text(whole[:until])
    assert pieces[-1] == Piece("", 0, "stop") and sum(piece.tokens for piece in pieces) == until


def test_an_answer_ends_where_the_context_does():
    with Engine(served("llama")) as engine:
        prompt = [1] * (CONTEXT - 4)
        pieces = list(ask(engine, prompt, greedy(LONG)))
        assert sum(piece.tokens for piece in pieces) == 4 and pieces[-1].finish == "length"
        for wrong in ([1] * CONTEXT, [], [VOCABULARY], [-1]):
            with pytest.raises(UserError, match=r"at most 63|from 0 to 52"):
                ask(engine, wrong, greedy(1))
        with pytest.raises(UserError, match="no model is called 'nobody'"):
            ask(engine, prompt, greedy(1), "nobody")


def test_cancelling_frees_the_place_running_or_waiting():
    with Engine(served("llama", context=LONG), max_batch=1) as engine:
        endless = ask(engine, prompts()[0], greedy(LONG))
        waits, after = ask(engine, prompts()[1], greedy(LONG)), ask(engine, prompts()[1], greedy(4))
        pieces = iter(endless)
        next(pieces)
        assert (engine.running, engine.waiting) == (1, 2)
        waits.cancel()
        assert list(waits) == [Piece("", 0, "cancelled")]
        endless.cancel()
        assert [piece.finish for piece in pieces][-1] == "cancelled"
        assert said(after) == alone(toy_model("llama"), prompts()[1], 4)
        endless.cancel()  # too late: nothing happens
        assert said(ask(engine, prompts()[1], greedy(4))) == alone(toy_model("llama"), prompts()[1], 4)


def test_a_full_queue_is_busy_and_takes_more_when_it_is_not():
    with Engine(served("llama", context=LONG), max_batch=1, max_waiting=2) as engine:
        running = ask(engine, prompts()[0], greedy(LONG))
        next(iter(running))
        waiting = [ask(engine, prompts()[0], greedy(2)) for _ in range(2)]
        with pytest.raises(Busy, match="2 requests"):
            ask(engine, prompts()[0], greedy(2))
        running.cancel()
        assert len({said(ticket) for ticket in waiting}) == 1
        assert said(ask(engine, prompts()[0], greedy(2)))


@pytest.mark.parametrize("finish", [True, False])
def test_closing_finishes_or_cancels_what_runs_and_refuses_the_rest(finish):
    engine = Engine(served("llama", context=LONG), max_batch=1)
    running, waiting = ask(engine, prompts()[0], greedy(2000)), ask(engine, prompts()[0], greedy(2))
    pieces = [next(iter(running))]
    engine.close(finish=finish)
    pieces += list(running)
    assert pieces[-1].finish == ("length" if finish else "cancelled")
    assert sum(piece.tokens for piece in pieces) == 2000 or not finish
    with pytest.raises(Closed):
        list(waiting)
    with pytest.raises(Closed):
        ask(engine, prompts()[0], greedy(1))
    engine.close()  # once more does no harm


def test_nobody_starves():
    """Long answers hold all places but one; short ones go through that one, and a newcomer's turn comes."""
    with Engine(served("llama", context=LONG), max_batch=3) as engine:
        endless = [ask(engine, prompts()[i], greedy(LONG)) for i in range(2)]
        short = [ask(engine, prompts()[i % 7], greedy(3)) for i in range(12)]
        assert all(said(ticket) for ticket in short)
        deadline = time.monotonic() + 10  # a row leaves a moment after its last piece
        while engine.running > 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert engine.running == 2
        for ticket in endless:
            ticket.cancel()


def test_a_step_that_fails_takes_its_batch_along_and_no_more(tmp_path, monkeypatch):
    held = served("llama", context=LONG)
    trained("llama", "full", 1, tmp_path / "whole")
    add(held, "whole", "full", tmp_path / "whole")
    with Engine(held) as engine:
        other = ask(engine, prompts()[0], greedy(LONG), "whole")
        next(iter(other))
        broken = held.mixer.model.model.layers[1]
        forward = broken.forward

        def out_of_memory(*args, **kwargs):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(broken, "forward", out_of_memory)
        with pytest.raises(Failed, match="out of memory"):
            said(ask(engine, prompts()[0], greedy(3)))
        monkeypatch.setattr(broken, "forward", forward)
        assert said(ask(engine, prompts()[0], greedy(3))) == alone(toy_model("llama"), prompts()[0], 3)
        assert next(iter(other)).tokens == 1
        other.cancel()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_leaves_nobody_waiting(monkeypatch):
    held = served("llama")
    with Engine(held, max_batch=1) as engine:

        def defect(*args, **kwargs):
            raise LookupError("a bug")

        monkeypatch.setattr(held.mixer.model, "forward", defect)
        for ticket in [ask(engine, prompts()[0], greedy(3)) for _ in range(2)]:
            with pytest.raises(Failed, match="a bug"):
                said(ticket)
        with pytest.raises(Closed):
            ask(engine, prompts()[0], greedy(3))


def test_the_cache_goes_with_the_last_row():
    with Engine(served("llama", context=LONG)) as engine:
        for ticket in [ask(engine, prompts()[i % 7], greedy(30 + i)) for i in range(30)]:
            said(ticket)
        deadline = time.monotonic() + 5
        while engine.running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [lane.batch.own for lane in engine._lanes.values()] == [None]
        kept = sum(isinstance(thing, torch.Tensor) and thing.ndim == 4 for thing in gc.get_objects())
        assert kept == 0


def test_requests_are_plain_values():
    request = Request((1, 2), Sampling(3, stop=("a",)))
    assert request == Request((1, 2), Sampling(3, stop=("a",))) and hash(request)

"""The choice of threads and library."""

from __future__ import annotations

import torch

from luthier.engine import backend
from luthier.engine.backend import Backend, current, fastest, tuned


def test_what_is_chosen_is_exact_and_not_slower_by_its_own_measure():
    chosen = fastest()
    assert chosen.threads <= torch.get_num_threads() and backend._exact(chosen)
    assert fastest() is chosen, "measured once"


def test_it_holds_within_the_block_and_only_on_a_cpu():
    before = current()
    with tuned(torch.device("cpu")):
        assert current() == fastest()
    assert current() == before
    with tuned(torch.device("meta")):
        assert current() == before


def test_what_the_user_has_set_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    before = current()
    try:
        Backend(before.threads, "high").use()
        assert fastest.__wrapped__() == Backend(before.threads, "high")
    finally:
        before.use()


def test_a_product_in_half_precision_is_not_exact(monkeypatch):
    exact = backend._matrices
    monkeypatch.setattr(backend, "_matrices", lambda: tuple(part.bfloat16().float() for part in exact()))
    assert backend._exact(current()), "of rounded numbers, an exact product"
    rounded = Backend(current().threads, "highest")
    monkeypatch.setattr(backend, "EXACT", 1e-9)
    assert not backend._exact(rounded), "fp32 itself is exact to about 1e-7"

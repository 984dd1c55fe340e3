"""The part of the recipe that each stage reads: what a stage cannot see cannot change its result."""

from __future__ import annotations

from luthier.recipe.schema import Data, Evaluate, Model, Plan, Train, Training
from luthier.recipe.values import Frozen, Named


class DataSection(Frozen):
    """Stage 1: the rows, and the tokenizer and context they are rendered for."""

    seed: int
    model: Model
    data: Data


class ModelSection(Frozen):
    """Stage 2."""

    seed: int
    model: Model


class PlanSection(Frozen):
    """Stage 3: looks at everything."""

    seed: int
    model: Model
    data: Data
    plan: Plan
    train: Train
    evaluate: Evaluate


class TrainSection(Frozen):
    """Stage 4, one variant."""

    seed: int
    model: Model
    data: Data
    training: Training
    max_new_tokens: int


class EvaluateSection(Frozen):
    """Stage 5."""

    seed: int
    model: Model
    data: Data
    train: Train
    evaluate: Evaluate


class DeploySection(Frozen):
    """Stage 6, one export of one variant."""

    seed: int
    model: Model
    data: Data
    training: Training
    export: Named

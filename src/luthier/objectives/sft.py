"""Supervised fine-tuning: maximise the likelihood of the answer given the prompt.

loss = - sum over labelled tokens of ln p(token | everything before it) / number of labelled tokens of the step.
Which tokens are labelled is decided by the data stage (`data.train_on`).
"""

from luthier.objectives.contract import Objective
from luthier.objectives.tokens import NoOptions, token_counts, token_loss

SFT = Objective(config=NoOptions, counts=token_counts, loss=token_loss)

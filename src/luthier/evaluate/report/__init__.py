"""What a finished run shows to people: the report and the model card, made from the run folder's files alone."""

from luthier.evaluate.report.card import write_card
from luthier.evaluate.report.render import write_report

__all__ = ["write_card", "write_report"]

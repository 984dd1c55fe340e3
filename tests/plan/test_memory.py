"""From the probe's peak to the run's."""

from luthier.plan.memory import SLACK, predicted_bytes


def test_the_prediction_lies_12_percent_and_some_slack_above_the_probe():
    assert predicted_bytes(1000 * 2**20) == 1120 * 2**20 + SLACK

"""What many GPUs would take: the script's tables stand in the page, and its sum is by hand."""

from pathlib import Path

import cluster_cost
import pytest

from shared.model.counting import count_parameters
from shared.model.presets import PRESETS

PAGE = Path(__file__).resolve().parents[1] / "many_gpus.md"


def test_the_pages_tables_are_what_the_script_prints():
    page = PAGE.read_text()
    shown = cluster_cost.main(["--gpus", "1", "8", "32", "--price", "2.5"])
    for table in shown.split("\n\n"):
        assert table in page


def test_the_cost_of_a_model_is_six_operations_a_parameter_and_token():
    assert cluster_cost.count("124m") == count_parameters(PRESETS["124m"]).total
    assert cluster_cost.training_seconds(1_000, 1e-6) == pytest.approx(6 * 1_000 * 20_000 / 1e6)

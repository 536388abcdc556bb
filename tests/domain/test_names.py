import re

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.names import artifact_key, deployment_name, experiment_name, metric_name, model_name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_every_artifact_key_has_only_lower_case_letters_digits_and_dashes(parts):
    assert re.fullmatch(r"[a-z0-9-]+", artifact_key(*parts))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80) | st.floats(), min_size=1, max_size=6))
def test_every_metric_name_has_only_characters_that_metric_stores_take(parts):
    name = metric_name(*parts)
    assert re.fullmatch(r"[A-Za-z0-9_\-. :/]+", name)
    assert len(name) <= 250


def test_names_read_as_documented():
    assert artifact_key("Verdict", "edge_flows") == "verdict-edge-flows"
    assert metric_name("robust", "pgd", "eps-0.5", "detection_rate") == "robust/pgd/eps-0.5/detection_rate"
    assert experiment_name("edge") == "revet/edge"
    assert model_name("edge") == "revet-edge"
    assert deployment_name("reevaluate", "edge") == "reevaluate/edge"

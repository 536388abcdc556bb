from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from torch import nn

from domain.errors import AttackError
from domain.features import load_feature_space
from domain.monitor import ThreatSettings
from evaluation.attacks.suites import Suite
from evaluation.attacks.url_search import UrlSearch
from evaluation.constraints.ball import Ball
from evaluation.robustness import evaluate_robustness
from evaluation.urls.features import URL_FEATURES, extract
from tests.evaluation.attacks.worlds import Linear, detector, generator, problem_of, rows_of

URLS = np.array(
    [
        "http://paypal-secure.example.com/login/account/verify.php?id=1",
        "http://evil.test/wp-content/bank/update.html",
        "http://203.0.113.9/signin/wallet/confirm",
        "http://a.b.c.phish.example.org/secure_login/billing",
    ],
    dtype=object,
)


def hint_counter(threshold: float = 0.5) -> nn.Module:
    """Malicious where a URL has hint words."""
    weight = [0.0] * len(URL_FEATURES)
    place = URL_FEATURES.index("n_hints")
    feature = load_feature_space("phishtank").features[place]
    weight[place] = feature.high if feature.transform == "linear" else float(np.log1p(feature.high))
    return Linear(weight, -threshold)


def test_every_success_is_a_url_whose_own_features_evade_within_the_budget():
    found = detector(hint_counter(), load_feature_space("phishtank"))
    problem = problem_of(found, extract(list(URLS)), Ball("linf", 0.6))
    problem.objects = URLS
    result = UrlSearch().run(problem, generator())
    assert result.objects is not None
    assert np.allclose(problem.compiled.encode(extract(list(result.objects))).numpy(), result.x.numpy())
    assert problem.evaded(result.x).sum() >= 3
    assert "evil.test" in result.objects[1]
    assert "example.org" in result.objects[3]


def test_the_search_never_leaves_a_small_budget():
    found = detector(hint_counter(), load_feature_space("phishtank"))
    problem = problem_of(found, extract(list(URLS)), Ball("linf", 0.02))
    problem.objects = URLS
    result = UrlSearch(rounds=2).run(problem, generator())
    assert problem.compiled.feasible(result.x, problem.x, problem.ball).all()


def test_an_attack_on_objects_is_judged_by_what_its_urls_are_and_not_by_what_it_claims(monkeypatch):
    @dataclass(frozen=True)
    class Liar:
        name: str = "liar"
        needs_gradient: bool = False
        parameters: dict = field(default_factory=dict)

        def run(self, problem, generator):
            return replace(UrlSearch().run(problem, generator), objects=problem.objects.copy())

    monkeypatch.setattr("evaluation.robustness.load_suite", lambda name: Suite("liars", 1, (), (Liar(),), "0" * 64))
    found = detector(hint_counter(), load_feature_space("phishtank"))
    rows = rows_of(extract(list(URLS)), [1, 1, 1, 1], objects=URLS)
    threat = ThreatSettings(epsilon=0.6, curve=(0.0, 0.6))
    assert evaluate_robustness(found, rows, threat=threat, suite="quick", benign=rows, seed=0).detected.all()


def test_rows_without_objects_are_refused():
    problem = problem_of(
        detector(hint_counter(), load_feature_space("phishtank")), extract(list(URLS)), Ball("linf", 0.1)
    )
    with pytest.raises(AttackError, match="raw objects"):
        UrlSearch().run(problem, generator())


def test_the_evaluation_edits_objects_where_they_exist_and_returns_them():
    found = detector(hint_counter(), load_feature_space("phishtank"))
    rows = rows_of(extract(list(URLS)), [1, 1, 1, 1], objects=URLS)
    threat = ThreatSettings(epsilon=0.6, curve=(0.0, 0.6))
    result = evaluate_robustness(found, rows, threat=threat, suite="quick", benign=rows, seed=0)
    assert [attack.name for attack in result.report.attacks] == ["url-search"]
    broken = result.clean_detected & ~result.detected
    assert broken.sum() >= 3
    assert result.adversarial_objects is not None
    assert np.allclose(extract(list(result.adversarial_objects[broken])), result.adversarial_raw[broken])
    assert (result.adversarial_objects[~broken] == URLS[~broken]).all()

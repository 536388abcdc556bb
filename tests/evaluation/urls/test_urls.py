import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.features import load_feature_space
from evaluation.constraints.compiled import CompiledSpace
from evaluation.urls.edits import propose_edits
from evaluation.urls.features import URL_FEATURES, extract
from evaluation.urls.parts import MAX_URL_LENGTH, UrlParts

PHISH = "http://www.login.paypal.evil-shop.co.uk:8080/a_b/verify%20it.php?id=12&x=y#z"


def row(url):
    return dict(zip(URL_FEATURES, extract([url])[0].tolist(), strict=True))


def test_the_shipped_space_lists_the_features_in_the_order_of_extraction():
    assert load_feature_space("phishtank").names == URL_FEATURES


def test_parts_of_a_url_are_found():
    parts = UrlParts.of(PHISH)
    assert (parts.www, parts.subdomain, parts.domain, parts.port) == (
        "www.",
        "login.paypal.",
        "evil-shop.co.uk",
        ":8080",
    )
    assert (parts.path, parts.query, parts.fragment) == ("/a_b/verify%20it.php", "?id=12&x=y", "#z")


@pytest.mark.parametrize("host", ["10.0.0.1", "0x7f.1", "2130706433", "[::1]"])
def test_numeric_hosts_are_addresses_without_a_registered_domain(host):
    assert UrlParts.of(f"http://{host}/x").is_ip
    assert UrlParts.of(f"http://{host}/x").domain == host


def test_features_count_what_they_name():
    found = row(PHISH)
    assert found["length_domain"] == len("evil-shop.co.uk")
    assert found["n_subdomains"] == 2
    assert found["n_digits_path"] == 4
    assert found["n_hints"] == 3  # login, pay(pal), verif
    assert found["n_brands_outside_domain"] == 1
    assert found["has_port"] == found["has_page_extension"] == 1
    assert found["is_ip"] == 0


def test_scheme_and_www_leave_no_trace_in_the_features():
    assert row("https://www.example.org/a") == row("http://example.org/a") == row("example.org/a")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
@example("http://[/")
@example("http://exa mple.org:99999/\x00?#?#")
@example("://")
@example("")
def test_any_text_is_cut_losslessly_and_extracted(text):
    assert str(UrlParts.of(text)) == text
    assert np.isfinite(extract([text])).all()


URLS = st.from_regex(
    r"https?://([a-z0-9-]{1,12}\.){1,4}(com|co\.uk|tk)(:[0-9]{2,4})?(/[a-z0-9_.~%-]{0,12}){0,5}(\?[a-z]=[a-z0-9]{1,5}(&q=1)?)?",
    fullmatch=True,
)


@settings(max_examples=25, deadline=None)
@given(URLS)
def test_every_url_gives_a_row_that_its_space_allows(url):
    compiled = CompiledSpace(load_feature_space("phishtank"), "weak")
    raw = extract([url])
    assert compiled.check(raw, raw).ok.all()


@settings(max_examples=25, deadline=None)
@given(URLS, st.integers(0, 1000), st.sampled_from(["weak", "expected"]))
def test_edits_keep_the_registered_domain_below_strong(url, seed, level):
    for variant in propose_edits(url, np.random.default_rng(seed), level):
        assert variant != url
        assert UrlParts.of(variant).domain == UrlParts.of(url).domain
        assert UrlParts.of(variant).scheme == UrlParts.of(url).scheme


@settings(max_examples=25, deadline=None)
@given(URLS, st.integers(0, 1000))
def test_a_weak_attacker_only_ever_lengthens_the_url(url, seed):
    for variant in propose_edits(url, np.random.default_rng(seed), "weak"):
        assert len(variant) > len(url)
        assert UrlParts.of(variant).host == UrlParts.of(url).host


@pytest.mark.parametrize("url", ["http://evil.com", "http://evil.com/", "http://evil.com?x=1", "http://evil.com///"])
def test_edits_of_a_bare_host_leave_the_host_alone(url):
    for seed in range(20):
        for variant in propose_edits(url, np.random.default_rng(seed), "expected"):
            assert UrlParts.of(variant).domain == "evil.com"


def test_only_a_strong_attacker_buys_another_domain():
    variants = propose_edits(PHISH, np.random.default_rng(0), "strong")
    assert any(UrlParts.of(variant).domain != "evil-shop.co.uk" for variant in variants)


def test_edits_repeat_with_the_seed():
    first = propose_edits(PHISH, np.random.default_rng(3), "expected")
    assert propose_edits(PHISH, np.random.default_rng(3), "expected") == first
    assert len(first) == len(set(first)) >= 10


def test_an_escape_is_never_cut_apart():
    url = "http://evil.com/%aa%bb%cc"
    for seed in range(30):
        for variant in propose_edits(url, np.random.default_rng(seed), "weak"):
            assert "%aa%bb%cc" in variant


def test_an_address_gets_no_subdomain():
    for seed in range(10):
        for variant in propose_edits("http://10.0.0.1/x", np.random.default_rng(seed), "expected"):
            assert UrlParts.of(variant).subdomain == ""


def test_endless_urls_are_cut_at_the_bound_of_the_space():
    assert row("http://a.com/" + "x" * 20_000)["length_url"] <= MAX_URL_LENGTH


def test_no_urls_give_no_rows():
    assert extract([]).shape == (0, len(URL_FEATURES))

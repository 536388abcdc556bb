"""From reports to a verdict: criteria, kind of degradation, remedy."""

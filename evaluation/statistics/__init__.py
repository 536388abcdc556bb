"""Statistics behind every number: intervals, paired and two-sample comparisons, multiplicity. Pure functions."""

"""Metrics of one detector on labelled rows."""

"""Attacks on rows: the torchattacks adapter, native searches, and the suites that put them in order."""

"""Pure numbers in, reports out: metrics, constraints, attacks, drift, statistics, decisions. No disk, no network."""

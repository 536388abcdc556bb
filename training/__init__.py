"""Data in, fitted detector out: adversarial training, calibration, poisoning screen. No MLflow, no SQL."""

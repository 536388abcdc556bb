"""The system of record: ledger, MLflow models and runs, artifacts, promotion, gate."""

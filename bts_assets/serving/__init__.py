"""The registered model, as MLflow serves it."""

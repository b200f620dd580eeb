"""Where data rests: Postgres, Parquet, MLflow. An engine or a path comes in; nothing is decided here."""

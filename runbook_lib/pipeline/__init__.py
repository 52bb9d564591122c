"""The pipeline: jobs come in, a worker writes and publishes them, operators steer it."""

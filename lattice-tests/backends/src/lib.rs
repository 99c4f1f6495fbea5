//! Private Redis and PostgreSQL servers for tests, demonstrations and benchmarks.

//! File tests, differential tests, golden tests, tidy test.

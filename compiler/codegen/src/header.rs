//! Writes C headers for compiled models.

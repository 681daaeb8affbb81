//! Tensors, loader and predictor for compiled models.

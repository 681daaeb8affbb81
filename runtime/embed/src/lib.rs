//! The executor and C ABI that every compiled model carries.

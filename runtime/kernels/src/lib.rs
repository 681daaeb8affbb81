//! Microkernels, their table and their packers.

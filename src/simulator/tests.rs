//! Tests of the simulator's answers.

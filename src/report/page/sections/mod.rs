//! The sections of the page, by what they are about.

pub(super) mod course;
pub(super) mod outcome;
pub(super) mod problems;

//! Decisions: whose fault a failure is, and when a list has ended. Whole runs in virtual time against models of APIs that know
//! the truth, so that no run can call itself complete while a row is missing.
//!
//! * `oracle`: what every run is checked against, whatever its test is about.
//! * `play`: one export against one model, over as many runs as a test needs.
//! * `fault_scope`: this item, or the API?
//! * `end_of_list`: where a list ends.
//! * `moving`: lists that move while they are read, and what is read once more.
//! * `neighbours`: cases from bug reports about real APIs.
//! * `new_settings`: what needs settings that were introduced together with these decisions.

mod end_of_list;
mod fault_scope;
mod moving;
mod neighbours;
mod new_settings;
mod oracle;
mod play;

//! What needs settings that were introduced together with these decisions.

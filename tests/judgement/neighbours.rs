//! Cases from bug reports about real APIs.

//! Settings and a site for the tests of this folder.

use std::sync::Arc;

use bytes::Bytes;

use super::cached::Cached;
use super::hosts::Hosts;
use super::metrics::Metrics;
use super::readiness::Readiness;
use super::respond::Site;
use crate::settings::{Layers, Origin, Settings};

pub(super) fn settings(more: &[(&str, &str)]) -> Settings {
    let mut layers = Layers::built_in().unwrap();
    for (key, value) in [("out", "/nonexistent/pagehaul")].iter().chain(more) {
        layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
    }
    Settings::resolve(&layers).unwrap()
}

/// A site on loopback whose status is this text.
pub(super) fn site(status: Result<&'static [u8], &'static str>) -> Arc<Site> {
    let settings = settings(&[]);
    Arc::new(Site {
        metrics: Arc::new(Metrics::new(&settings, None)),
        readiness: Arc::new(Readiness::new(&settings, None)),
        status: Cached::new("status", move || status.map(Bytes::from_static).map_err(str::to_owned)),
        report: Cached::new("report", || Ok(Bytes::from_static(b"<p>the report\n"))),
        hosts: Hosts::new("127.0.0.1:9464".parse().unwrap()),
    })
}

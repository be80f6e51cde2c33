//! Bodies that come packed, where they were asked for so: unpacked piece by piece, and never beyond what a body may hold.
//!
//! A label alone makes no packed body: one that does not begin like its coding stays as it came, and is judged by its frame.
//! Codings in layers are not undone, for nobody asked for them.

use std::io::{Cursor, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use zstd::stream::read::Decoder;

use super::caps::{BODY_CAP, FREE_BYTES};
use super::transport_error::FetchError;
use crate::fetch::classify::TransportError;

/// The codings that are asked for.
pub(super) const CODINGS: &str = "zstd, gzip";
/// Largest window of a zstd body, as a power of two: what RFC 9659 allows on the web.
const WINDOW: u32 = 23;
/// How many times its packed bytes a body may be, if it is no small one. Pages reach 5, lists of equal rows 60.
const RATIO: usize = 250;

/// A body that is being unpacked.
pub(super) struct Unpacking {
    packed: usize,
    reader: Box<dyn Read + Send>,
    plain: Vec<u8>,
}

impl Unpacking {
    /// Begins with a body, if it is packed in one of [`CODINGS`] and says so.
    pub(super) fn begin(headers: &HeaderMap, body: &Bytes) -> Result<Option<Self>, FetchError> {
        let label = headers.get(CONTENT_ENCODING).map(|label| label.as_bytes().trim_ascii().to_ascii_lowercase());
        let packed = Cursor::new(body.clone());
        let reader: Box<dyn Read + Send> = match (label.as_deref(), body.as_ref()) {
            (Some(b"gzip" | b"x-gzip"), [0x1f, 0x8b, ..]) => Box::new(MultiGzDecoder::new(packed)),
            (Some(b"zstd"), [0x28, 0xb5, 0x2f, 0xfd, ..]) => {
                let mut decoder = Decoder::with_buffer(packed).map_err(broken)?;
                decoder.window_log_max(WINDOW).map_err(broken)?;
                Box::new(decoder)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { packed: body.len(), reader, plain: Vec::new() }))
    }

    /// Unpacks as many bytes more as a body may hold without asking. True: that was all of it.
    pub(super) fn step(&mut self) -> Result<bool, FetchError> {
        let most = u64::try_from(FREE_BYTES).unwrap_or_default();
        let read = self.reader.by_ref().take(most).read_to_end(&mut self.plain).map_err(broken)?;
        if self.plain.len() > BODY_CAP {
            return Err(FetchError::bare(TransportError::TooLarge));
        }
        if self.plain.len() > FREE_BYTES && self.plain.len() / RATIO > self.packed {
            let message = format!("it is more than {RATIO} times as large as its packed bytes");
            return Err(FetchError::because(TransportError::TooLarge, message));
        }
        Ok(read < FREE_BYTES)
    }

    /// The body as it was before it was packed.
    pub(super) fn plain(self) -> Bytes {
        Bytes::from(self.plain)
    }
}

fn broken(error: std::io::Error) -> FetchError {
    FetchError::because(TransportError::Unreadable, error)
}

#[cfg(test)]
mod tests {
    use super::Unpacking;
    use crate::fetch::caps::{BODY_CAP, FREE_BYTES};
    use crate::fetch::classify::TransportError;
    use bytes::Bytes;
    use reqwest::header::{CONTENT_ENCODING, HeaderMap};
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(plain, 3).unwrap()
    }

    /// The unpacked body and in how many steps; none where it stays as it is.
    fn unpacked(label: &str, body: &[u8]) -> Result<Option<(Vec<u8>, usize)>, TransportError> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, label.parse().unwrap())]);
        let begun = Unpacking::begin(&headers, &Bytes::copy_from_slice(body)).map_err(|error| error.lost)?;
        let Some(mut unpacking) = begun else { return Ok(None) };
        let mut steps = 1;
        while !unpacking.step().map_err(|error| error.lost)? {
            steps += 1;
        }
        Ok(Some((unpacking.plain().to_vec(), steps)))
    }

    /// Bytes that no packer makes much smaller.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn a_body_of_any_length_comes_out_as_it_went_in() {
        for length in [0, 1, 12_000, FREE_BYTES - 1, FREE_BYTES, FREE_BYTES + 1, BODY_CAP] {
            let plain = noise(length);
            for (label, packed) in [("gzip", gzip(&plain)), ("X-Gzip ", gzip(&plain)), ("zstd", zstd(&plain))] {
                let (found, steps) = unpacked(label, &packed).unwrap().unwrap();
                assert!(found == plain, "{label}, {length} bytes");
                assert_eq!(steps, length / FREE_BYTES + 1, "{label}, {length} bytes");
            }
        }
    }

    #[test]
    fn what_is_not_packed_as_it_says_stays_as_it_is() {
        for (label, body) in [
            ("gzip", b"{}".to_vec()),
            ("zstd", b"{}".to_vec()),
            ("zstd", gzip(b"{}")),
            ("gzip, gzip", gzip(b"{}")),
            ("br", gzip(b"{}")),
            ("identity", zstd(b"{}")),
            ("gzip", Vec::new()),
        ] {
            assert_eq!(unpacked(label, &body), Ok(None), "{label}");
        }
    }

    #[test]
    fn a_bomb_is_given_up_while_it_is_still_small() {
        let bomb = vec![b' '; 4 * BODY_CAP];
        for (label, packed) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
            assert_eq!(unpacked(label, &packed), Err(TransportError::TooLarge), "{label}");
        }
        let large = noise(BODY_CAP + 1);
        for (label, packed) in [("gzip", gzip(&large)), ("zstd", zstd(&large))] {
            assert_eq!(unpacked(label, &packed), Err(TransportError::TooLarge), "{label}");
        }
    }

    #[test]
    fn a_packed_body_that_breaks_off_or_is_damaged_is_never_whole() {
        let plain = noise(12_000);
        for (label, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
            for cut in [5, packed.len() / 2, packed.len() - 1] {
                let found = unpacked(label, &packed[..cut]);
                assert!(found.is_err() || found != Ok(Some((plain.clone(), 1))), "{label} cut at {cut}");
            }
            let mut damaged = packed;
            damaged[100] ^= 0x10;
            assert!(unpacked(label, &damaged) != Ok(Some((plain.clone(), 1))), "{label}");
        }
    }
}

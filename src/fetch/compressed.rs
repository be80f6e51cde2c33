//! Compressed bodies, where the settings allow them: decompressed piece by piece, and never beyond the cap of a body.
//!
//! The label alone is not enough: a body that does not start like its coding stays as it is, and is classified like any other.
//! Nested codings are not decoded, because they are never requested.

use std::io::{Cursor, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use zstd::stream::read::Decoder;

use super::caps::{BODY_CAP, FREE_BYTES};
use super::error::{FetchError, FetchErrorKind};

/// The value of `Accept-Encoding`.
pub(super) const CODINGS: &str = "zstd, gzip";
/// Maximum window of a zstd body, as a power of two: the limit of RFC 9659 for the web.
const MAX_WINDOW_LOG: u32 = 23;
/// Maximum ratio of a body's size to its compressed size, unless it is small. Pages reach 5, lists of equal rows 60.
const MAX_RATIO: usize = 250;

pub(super) struct Decompressor {
    compressed: usize,
    reader: Box<dyn Read + Send>,
    pub(super) body: Vec<u8>,
}

impl Decompressor {
    /// None: the body is not compressed in one of [`CODINGS`], or its label does not say so.
    pub(super) fn new(headers: &HeaderMap, body: &Bytes) -> Result<Option<Self>, FetchError> {
        let label = headers.get(CONTENT_ENCODING).map(|label| label.as_bytes().trim_ascii().to_ascii_lowercase());
        let compressed = Cursor::new(body.clone());
        let reader: Box<dyn Read + Send> = match (label.as_deref(), body.as_ref()) {
            (Some(b"gzip" | b"x-gzip"), [0x1f, 0x8b, ..]) => Box::new(MultiGzDecoder::new(compressed)),
            (Some(b"zstd"), [0x28, 0xb5, 0x2f, 0xfd, ..]) => {
                let mut decoder = Decoder::with_buffer(compressed).map_err(damaged)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(damaged)?;
                Box::new(decoder)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { compressed: body.len(), reader, body: Vec::new() }))
    }

    /// Decompresses the next [`FREE_BYTES`]. True: that was the end.
    pub(super) fn step(&mut self) -> Result<bool, FetchError> {
        let most = u64::try_from(FREE_BYTES).unwrap_or_default();
        let read = self.reader.by_ref().take(most).read_to_end(&mut self.body).map_err(damaged)?;
        if self.body.len() > BODY_CAP {
            return Err(FetchError::new(FetchErrorKind::TooLarge));
        }
        if self.body.len() > FREE_BYTES && self.body.len() / MAX_RATIO > self.compressed {
            let message = format!("it is more than {MAX_RATIO} times as large as its compressed bytes");
            return Err(FetchError::with_source(FetchErrorKind::TooLarge, message));
        }
        Ok(read < FREE_BYTES)
    }
}

fn damaged(error: std::io::Error) -> FetchError {
    FetchError::with_source(FetchErrorKind::Malformed, error)
}

#[cfg(test)]
mod tests {
    use super::Decompressor;
    use crate::fetch::FetchErrorKind;
    use crate::fetch::caps::{BODY_CAP, FREE_BYTES};
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

    /// The decompressed body and the number of steps; none if it stays as it is.
    fn decompressed(label: &str, body: &[u8]) -> Result<Option<(Vec<u8>, usize)>, FetchErrorKind> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, label.parse().unwrap())]);
        let begun = Decompressor::new(&headers, &Bytes::copy_from_slice(body)).map_err(|error| error.kind)?;
        let Some(mut decompressor) = begun else { return Ok(None) };
        let mut steps = 1;
        while !decompressor.step().map_err(|error| error.kind)? {
            steps += 1;
        }
        Ok(Some((decompressor.body, steps)))
    }

    /// Bytes that do not compress.
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
            for (label, compressed) in [("gzip", gzip(&plain)), ("X-Gzip ", gzip(&plain)), ("zstd", zstd(&plain))] {
                let (found, steps) = decompressed(label, &compressed).unwrap().unwrap();
                assert!(found == plain, "{label}, {length} bytes");
                assert_eq!(steps, length / FREE_BYTES + 1, "{label}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_body_that_is_not_compressed_as_its_label_says_stays_as_it_is() {
        for (label, body) in [
            ("gzip", b"{}".to_vec()),
            ("zstd", b"{}".to_vec()),
            ("zstd", gzip(b"{}")),
            ("gzip, gzip", gzip(b"{}")),
            ("br", gzip(b"{}")),
            ("identity", zstd(b"{}")),
            ("gzip", Vec::new()),
        ] {
            assert_eq!(decompressed(label, &body), Ok(None), "{label}");
        }
    }

    #[test]
    fn a_bomb_is_given_up_while_it_is_still_small() {
        let bomb = vec![b' '; 4 * BODY_CAP];
        for (label, compressed) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
            assert_eq!(decompressed(label, &compressed), Err(FetchErrorKind::TooLarge), "{label}");
        }
        let large = noise(BODY_CAP + 1);
        for (label, compressed) in [("gzip", gzip(&large)), ("zstd", zstd(&large))] {
            assert_eq!(decompressed(label, &compressed), Err(FetchErrorKind::TooLarge), "{label}");
        }
    }

    #[test]
    fn a_compressed_body_that_is_cut_or_damaged_is_never_whole() {
        let plain = noise(12_000);
        for (label, compressed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
            for cut in [5, compressed.len() / 2, compressed.len() - 1] {
                let found = decompressed(label, &compressed[..cut]);
                assert!(found.is_err() || found != Ok(Some((plain.clone(), 1))), "{label} cut at {cut}");
            }
            let mut damaged = compressed;
            damaged[100] ^= 0x10;
            assert!(decompressed(label, &damaged) != Ok(Some((plain.clone(), 1))), "{label}");
        }
    }
}

//! What a store says about files, whatever kind of store it is.

use std::fs::File;
use std::io::{self, Read, Seek};

use sha2::{Digest, Sha256};

use crate::endpoint::hex;

/// What became of a small file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Nothing had its name, or the same content was there already.
    Created,
    /// It took the place of another one.
    Replaced,
    /// The one that is there stays.
    Refused,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its length; none if it is not a plain file.
    pub bytes: Option<u64>,
    /// What a bucket calls this content of it.
    pub etag: Option<String>,
}

/// SHA-256 of a file's content, hexadecimal.
pub(super) fn content_hash(mut content: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    content.rewind()?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

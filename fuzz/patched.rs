//! A file that the program wrote, with changes: an input says where and what, so that it need not find the format first.

/// Each five bytes of `changes` are an offset and a byte to write there; what is left over cuts the file short.
pub(crate) fn patched(mut file: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    let (changes, rest) = changes.as_chunks::<5>();
    for [a, b, c, d, byte] in changes {
        let at = u32::from_le_bytes([*a, *b, *c, *d]) as usize % file.len();
        file[at] = *byte;
    }
    if let [a, b, ..] = rest {
        file.truncate(usize::from(u16::from_le_bytes([*a, *b])));
    }
    file
}

//! The journal: every response that may have been paid for, durable before its rows are decoded.
//!
//! One append-only file for each segment. A group of responses is a zstd skippable frame (RFC 8878, section 3.1.2) with our
//! checksum, then one zstd frame; so `zstdcat` shows a journal as lines of JSON: a header for each response, then its body.
//! A frame describes itself: the output can be rebuilt from the files alone.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, ItemId, PageNum, SegmentId};
use crate::state::disk::{AppendFile, Disk, DiskError, Doing};

/// Magic number of a zstd skippable frame, the seventh of sixteen.
const SKIPPABLE: u32 = 0x184D_2A56;
/// Bytes in the skippable frame: version, CRC-32, compressed and plain length.
const HEADER_CONTENT: u32 = 16;
/// Bytes before the zstd frame: magic number, length, content.
const HEADER: usize = 24;
const HEADER_LENGTH: u64 = 24;
const VERSION: u32 = 1;
/// Level 1 compresses pages four to one at half the cost of level 3.
const LEVEL: i32 = 1;
/// Longest frame that is read, bytes. The body budget bounds groups far below.
const MAX_FRAME: u32 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A frame that the ledger names is missing or not as it was written.
    #[error("journal {} is damaged at byte {at}: {reason}", path.display())]
    Damaged {
        path: PathBuf,
        /// Offset of the frame, bytes.
        at: u64,
        reason: &'static str,
    },
    #[error("compress a group of responses")]
    Compress(#[source] io::Error),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub attempt: AttemptId,
    pub id: ItemId,
    pub page: PageNum,
    /// When the response was whole.
    pub at: Utc64,
    pub status: u16,
    /// Whether it is the page, by the envelope; otherwise it is evidence of a failure.
    pub is_page: bool,
    /// The body as it arrived.
    pub body: Bytes,
}

/// The line before a body; its fields are the format of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct HeadLine<'a> {
    attempt: i64,
    item: std::borrow::Cow<'a, str>,
    page: u32,
    at: i64,
    status: u16,
    is_page: bool,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    pub offset: u64,
    /// Bytes, headers included.
    pub length: u64,
}

impl FrameRef {
    /// Offset of the byte behind the frame.
    pub fn end(self) -> u64 {
        self.offset + self.length
    }
}

pub fn file_name(segment: SegmentId) -> String {
    format!("{:06}.zst", segment.0)
}

pub struct Journal {
    file: AppendFile,
    /// Kept from group to group: a new one would cost a megabyte of memory.
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    frame: Vec<u8>,
}

impl Journal {
    /// Opens a segment's file to append behind its first `len` bytes, which are known to be whole frames.
    pub fn open(disk: Disk, directory: &Path, segment: SegmentId, len: u64) -> Result<Self, JournalError> {
        let file = disk.append(&directory.join(file_name(segment)), len)?;
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(JournalError::Compress)?;
        Ok(Self { file, compressor, plain: Vec::new(), frame: Vec::new() })
    }

    /// Creates the file of a new segment. An error if it exists: then the ledger is older than the journal, and nothing may
    /// overwrite it.
    pub(crate) fn create(disk: Disk, directory: &Path, segment: SegmentId) -> Result<Self, JournalError> {
        let path = directory.join(file_name(segment));
        if path.exists() {
            let reason = "a journal of a segment that the ledger does not know";
            return Err(JournalError::Damaged { path, at: 0, reason });
        }
        Self::open(disk, directory, segment, 0)
    }

    pub fn bytes(&self) -> u64 {
        self.file.len
    }

    /// Appends a group and waits until it is durable.
    pub fn append(&mut self, entries: &[JournalEntry]) -> Result<FrameRef, JournalError> {
        self.compress(entries).map_err(JournalError::Compress)?;
        let offset = self.file.len;
        self.file.append(&self.frame)?;
        Ok(FrameRef { offset, length: self.file.len - offset })
    }

    fn compress(&mut self, entries: &[JournalEntry]) -> io::Result<()> {
        self.plain.clear();
        for entry in entries {
            let head = HeadLine {
                attempt: entry.attempt.0,
                item: entry.id.as_str().into(),
                page: entry.page.0,
                at: entry.at.0,
                status: entry.status,
                is_page: entry.is_page,
                length: entry.body.len(),
            };
            serde_json::to_writer(&mut self.plain, &head)?;
            self.plain.push(b'\n');
            self.plain.extend_from_slice(&entry.body);
            self.plain.push(b'\n');
        }
        // The header is filled in when the compressed length is known.
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.reserve(zstd::zstd_safe::compress_bound(self.plain.len()) + HEADER);
        frame.resize(HEADER, 0);
        let mut behind = io::Cursor::new(frame);
        behind.set_position(HEADER_LENGTH);
        self.compressor.compress_to_buffer(&self.plain, &mut behind)?;
        self.frame = behind.into_inner();
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let compressed = self.frame.get(HEADER..).unwrap_or_default();
        let compressed_len = u32::try_from(compressed.len()).map_err(too_large)?;
        let plain_len = u32::try_from(self.plain.len()).map_err(too_large)?;
        let crc = checksum(compressed_len, plain_len, compressed);
        let words = [SKIPPABLE, HEADER_CONTENT, VERSION, crc, compressed_len, plain_len];
        for (slot, word) in self.frame.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("file", &self.file).finish_non_exhaustive()
    }
}

/// CRC-32 over the lengths and the compressed bytes.
fn checksum(compressed_len: u32, plain_len: u32, compressed: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&compressed_len.to_le_bytes());
    hash.update(&plain_len.to_le_bytes());
    hash.update(compressed);
    hash.finalize()
}

/// Reads the frames of a journal file in order, up to the first that is not whole.
#[derive(Debug)]
pub struct JournalReader {
    file: BufReader<File>,
    path: PathBuf,
    offset: u64,
}

/// What is at the reader's position.
#[derive(Debug)]
pub enum NextFrame {
    Frame(FrameRef, Vec<JournalEntry>),
    /// The end of the file, exactly behind a frame.
    End,
    /// Something that is not a whole frame: a torn end, or damage.
    Torn(&'static str),
}

impl JournalReader {
    /// Opens a segment's file; none if there is no such file.
    pub fn open(directory: &Path, segment: SegmentId) -> Result<Option<Self>, JournalError> {
        let path = directory.join(file_name(segment));
        match File::open(&path) {
            Ok(file) => Ok(Some(Self { file: BufReader::with_capacity(1 << 18, file), path, offset: 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("open", &path)?,
        }
    }

    /// Bytes read so far, all of them whole frames.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// An error that names this file and position.
    pub fn damaged(&self, reason: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), at: self.offset, reason }
    }

    /// Passes over a frame that starts here, without reading it. False: the file ends before its end.
    pub fn skip(&mut self, frame: FrameRef) -> Result<bool, JournalError> {
        let end = self.file.seek(SeekFrom::End(0)).doing("measure", &self.path)?;
        self.file.seek(SeekFrom::Start(frame.end())).doing("seek in", &self.path)?;
        self.offset = frame.end();
        Ok(frame.end() <= end)
    }

    /// Reads the next frame. After anything except a frame the reader must not be used again.
    pub fn next_frame(&mut self) -> Result<NextFrame, JournalError> {
        let mut words = [0_u32; 6];
        for (at, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 4];
            match self.fill(&mut bytes)? {
                4 => *word = u32::from_le_bytes(bytes),
                0 if at == 0 => return Ok(NextFrame::End),
                _ => return Ok(NextFrame::Torn("its header breaks off")),
            }
        }
        let [magic, content, version, crc, compressed_len, plain_len] = words;
        if magic != SKIPPABLE
            || content != HEADER_CONTENT
            || version != VERSION
            || plain_len > MAX_FRAME
            || compressed_len > MAX_FRAME
        {
            return Ok(NextFrame::Torn("no frame starts here"));
        }
        let mut compressed = vec![0; usize::try_from(compressed_len).unwrap_or_default()];
        if self.fill(&mut compressed)? < compressed.len() {
            return Ok(NextFrame::Torn("a frame breaks off"));
        }
        if checksum(compressed_len, plain_len, &compressed) != crc {
            return Ok(NextFrame::Torn("a checksum does not match"));
        }
        let plain = zstd::bulk::decompress(&compressed, usize::try_from(plain_len).unwrap_or_default());
        let Some(entries) = plain.ok().and_then(|plain| parse(&Bytes::from(plain))) else {
            return Ok(NextFrame::Torn("a frame does not contain responses"));
        };
        let frame = FrameRef { offset: self.offset, length: HEADER_LENGTH + u64::from(compressed_len) };
        self.offset = frame.end();
        Ok(NextFrame::Frame(frame, entries))
    }

    /// Reads until the buffer is full or the file ends. Returns the bytes read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, JournalError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).doing("read", &self.path)?,
            }
        }
        Ok(filled)
    }
}

fn parse(plain: &Bytes) -> Option<Vec<JournalEntry>> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        let line = plain.get(at..)?.split(|byte| *byte == b'\n').next()?;
        let head: HeadLine<'_> = serde_json::from_slice(line).ok()?;
        let start = at + line.len() + 1;
        let end = start.checked_add(head.length)?;
        if plain.get(end) != Some(&b'\n') {
            return None;
        }
        entries.push(JournalEntry {
            attempt: AttemptId(head.attempt),
            id: ItemId::new(&head.item),
            page: PageNum(head.page),
            at: Utc64(head.at),
            status: head.status,
            is_page: head.is_page,
            body: plain.slice(start..end),
        });
        at = end + 1;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::{Journal, JournalEntry, JournalReader, NextFrame};
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, PageNum, SegmentId};
    use crate::state::disk::Disk;
    use bytes::Bytes;

    fn entry(attempt: i64, body: &'static [u8]) -> JournalEntry {
        let (attempt, id) = (AttemptId(attempt), ItemId::new("17\"\n29"));
        JournalEntry {
            attempt,
            id,
            page: PageNum(3),
            at: Utc64(5),
            status: 200,
            is_page: true,
            body: Bytes::from_static(body),
        }
    }

    fn frames(directory: &std::path::Path) -> (Vec<Vec<JournalEntry>>, u64, Option<&'static str>) {
        let mut reader = JournalReader::open(directory, SegmentId(1)).unwrap().unwrap();
        let mut frames = Vec::new();
        loop {
            match reader.next_frame().unwrap() {
                NextFrame::Frame(_, entries) => frames.push(entries),
                NextFrame::End => return (frames, reader.offset(), None),
                NextFrame::Torn(reason) => return (frames, reader.offset(), Some(reason)),
            }
        }
    }

    #[test]
    fn what_was_appended_is_read_back_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let groups = [vec![entry(1, b"{\"a\":\n1}"), entry(2, b"")], vec![entry(3, b"\xff\n\n")]];
        let mut journal = Journal::open(Disk, directory.path(), SegmentId(1), 0).unwrap();
        for group in &groups {
            journal.append(group).unwrap();
        }
        let (read, end, torn) = frames(directory.path());
        assert_eq!((read.as_slice(), end, torn), (&groups[..], journal.bytes(), None));
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_its_whole_frames_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(Disk, directory.path(), SegmentId(1), 0).unwrap();
        let first = journal.append(&[entry(1, b"first")]).unwrap();
        let second = journal.append(&[entry(2, b"second")]).unwrap();
        for cut in (0..second.end()).rev() {
            let path = directory.path().join(super::file_name(SegmentId(1)));
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(cut).unwrap();
            let (read, end, torn) = frames(directory.path());
            let whole = usize::from(cut >= first.end());
            assert_eq!((read.len(), end), (whole, if whole == 1 { first.end() } else { 0 }), "cut at {cut}");
            assert_eq!(torn.is_none(), cut == 0 || cut == first.end(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_never_read_as_a_response() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(super::file_name(SegmentId(1)));
        Journal::open(Disk, directory.path(), SegmentId(1), 0).unwrap().append(&[entry(1, b"first")]).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bad).unwrap();
            let (read, _, torn) = frames(directory.path());
            assert!(read.is_empty() && torn.is_some(), "byte {at}");
        }
    }

    #[test]
    fn any_zstd_tool_can_read_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(Disk, directory.path(), SegmentId(1), 0).unwrap();
        journal.append(&[entry(1, b"{\"code\":0}")]).unwrap();
        let file = std::fs::File::open(directory.path().join(super::file_name(SegmentId(1)))).unwrap();
        let text = String::from_utf8(zstd::stream::decode_all(file).unwrap()).unwrap();
        assert!(text.ends_with("\n{\"code\":0}\n") && text.starts_with("{\"attempt\":1,"), "{text}");
    }

    /// Every journal of every version must be read: a frame written by hand, with its body not compressed.
    const FRAME: &[u8] = b"\
        \x56\x2a\x4d\x18\x10\x00\x00\x00\x01\x00\x00\x00\xf8\x85\x23\x47\x6c\x00\x00\x00\x63\x00\x00\x00\
        \x28\xb5\x2f\xfd\x20\x63\x19\x03\x00\
        {\"attempt\":1,\"item\":\"17\\\"\\n29\",\"page\":3,\"at\":5,\"status\":200,\"is_page\":true,\"length\":10}\n{\"code\":0}\n";
    /// Bytes of it before the text: the header and that of the zstd frame.
    const HEADERS: usize = 24 + 9;

    #[test]
    fn a_frame_is_written_and_read_with_this_header_and_these_keys_in_this_order() {
        let (given, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut file = std::fs::File::create(given.path().join("000001.zst")).unwrap();
        std::io::Write::write_all(&mut file, FRAME).unwrap();
        let entry = entry(1, b"{\"code\":0}");
        let end = u64::try_from(FRAME.len()).unwrap();
        assert_eq!(frames(given.path()), (vec![vec![entry.clone()]], end, None));
        Journal::open(Disk, directory.path(), SegmentId(1), 0).unwrap().append(&[entry]).unwrap();
        let written = std::fs::read(directory.path().join("000001.zst")).unwrap();
        assert_eq!(written[..12], FRAME[..12], "magic number, length of the header, version");
        assert_eq!(written[20..24], FRAME[20..24], "length of the text");
        assert_eq!(zstd::stream::decode_all(&written[..]).unwrap(), FRAME[HEADERS..]);
    }
}

//! Compressed files, as streams. What follows the last frame is ignored, as gzip does and as Linux's
//! decompressors do: images are padded, and kernels carry their length behind them.

use std::io::Read;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::StreamingDecoder;
use xz4rust::{XzDecoder, XzNextBlockResult};

use super::{Format, FormatError};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// The largest dictionary: what `xz -9` takes is half of it, what Linux's `xz_wrap.sh` asks for is all of it.
/// The zstd decoder has the same limit for windows (`zstd --ultra -22`).
const LARGEST_DICTIONARY: usize = 128 << 20;

pub(super) fn format(bytes: &[u8]) -> Option<Format> {
    let magic = [(GZIP, Format::Gzip), (ZSTD, Format::Zstd), (XZ, Format::Xz)];
    let found = magic.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format);
    found.or_else(|| skippable(bytes).map(|_| Format::Zstd))
}

pub(super) fn unpack(format: Format, bytes: &[u8], longest: u64) -> Result<Vec<u8>, FormatError> {
    let mut out = Out { bytes: Vec::new(), longest, format };
    match format {
        Format::Gzip => gzip(bytes, &mut out)?,
        Format::Zstd => zstd(bytes, &mut out)?,
        _ => xz(bytes, &mut out)?,
    }
    Ok(out.bytes)
}

struct Out {
    bytes: Vec<u8>,
    longest: u64,
    format: Format,
}

impl Out {
    fn read(&mut self, from: &mut impl Read) -> Result<(), FormatError> {
        // One more, which shows that there is more.
        let room = (self.longest + 1).saturating_sub(self.bytes.len() as u64);
        let read = from.take(room).read_to_end(&mut self.bytes);
        read.map_err(|error| self.error(&error))?;
        self.check()
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.bytes.len() as u64 > self.longest {
            return Err(FormatError::TooLong { format: self.format, longest: self.longest });
        }
        Ok(())
    }

    fn error(&self, why: &impl ToString) -> FormatError {
        FormatError::Unpack { format: self.format, why: why.to_string() }
    }
}

fn gzip(mut bytes: &[u8], out: &mut Out) -> Result<(), FormatError> {
    while bytes.starts_with(GZIP) {
        let mut member = GzDecoder::new(bytes);
        out.read(&mut member)?;
        bytes = member.into_inner();
    }
    Ok(())
}

fn zstd(mut bytes: &[u8], out: &mut Out) -> Result<(), FormatError> {
    loop {
        if let Some(rest) = skippable(bytes) {
            bytes = rest;
        } else if bytes.starts_with(ZSTD) {
            let frame = StreamingDecoder::new(&mut bytes);
            let mut frame = frame.map_err(|error| out.error(&error))?;
            out.read(&mut frame)?;
            let sum = frame.decoder.get_checksum_from_data();
            if sum.is_some() && sum != frame.decoder.get_calculated_checksum() {
                return Err(out.error(&"wrong checksum"));
            }
        } else {
            return Ok(());
        }
    }
}

/// What follows a skippable frame (RFC 8878, 3.1.2).
fn skippable(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(8)?;
    if !matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        return None;
    }
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    rest.get(len as usize..)
}

fn xz(mut bytes: &[u8], out: &mut Out) -> Result<(), FormatError> {
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(4096, LARGEST_DICTIONARY);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let step = decoder.decode(bytes, &mut buffer).map_err(|error| out.error(&error))?;
        let (consumed, produced) = (step.input_consumed(), step.output_produced());
        bytes = bytes.get(consumed..).unwrap_or_default();
        out.bytes.extend(buffer.iter().take(produced));
        out.check()?;
        match step {
            XzNextBlockResult::EndOfStream(..) => {
                // Padding between streams is zeros, by fours (the .xz file format, 2.2).
                while let Some(rest) = bytes.strip_prefix(&[0; 4]) {
                    bytes = rest;
                }
                if !bytes.starts_with(XZ) {
                    return Ok(());
                }
                decoder.reset();
            }
            XzNextBlockResult::NeedMoreData(..) if consumed == 0 && produced == 0 => {
                return Err(out.error(&"it ends in the middle"));
            }
            XzNextBlockResult::NeedMoreData(..) => {}
        }
    }
}

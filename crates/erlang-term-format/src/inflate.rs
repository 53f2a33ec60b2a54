//! Compressed terms: tag 80, the length of the content, a zlib stream.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::error::{DecodeError, DecodeErrorKind as Kind};
use crate::limits::{Limits, NODE_BYTES};
use crate::reader::{Reader, Result};
use crate::tag;

/// Where the term itself is.
pub(crate) enum Content<'b> {
    /// In the input.
    Plain(Reader<'b>),
    /// In what the input inflated to, and the reader that has what may still be spent.
    Inflated(Vec<u8>, Reader<'b>),
}

/// Deflate never makes more of one byte.
const RATIO_MAX: usize = 1032;

/// Reads the version byte, and inflates what is compressed.
pub(crate) fn open<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Content<'b>> {
    let mut reader = Reader::new(bytes, limits)?;
    match reader.u8()? {
        tag::VERSION => {}
        version => return Err(DecodeError::new(0, Kind::Version(version))),
    }
    if reader.peek()? != tag::COMPRESSED {
        return Ok(Content::Plain(reader));
    }
    reader.u8()?;
    let claimed = reader.u32_length()?;
    let content = inflate(&mut reader, claimed, limits)?;
    Ok(Content::Inflated(content, reader))
}

/// Inflates to exactly `claimed` bytes, which must be possible, allowed and paid.
fn inflate(reader: &mut Reader<'_>, claimed: usize, limits: &Limits) -> Result<Vec<u8>> {
    if claimed > limits.bytes_max {
        let (bytes, max) = (claimed, limits.bytes_max);
        return Err(reader.error(Kind::TooLarge { bytes, max }));
    }
    let stream = reader.rest();
    if claimed > stream.len().saturating_mul(RATIO_MAX) {
        return Err(reader.error(Kind::CompressedSize { claimed }));
    }
    // Once for what it inflates to, and once for what is made of that, which cannot borrow.
    reader.spend_memory(claimed.saturating_mul(2).div_ceil(NODE_BYTES))?;
    let mut content = vec![0; claimed];
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = Box::new(DecompressorOxide::new());
    let (status, consumed, written) = decompress(&mut state, stream, &mut content, 0, flags);
    match status {
        TINFLStatus::Done if written == claimed && consumed == stream.len() => Ok(content),
        TINFLStatus::Done if written == claimed => {
            Err(reader.error(Kind::TrailingBytes(stream.len() - consumed)))
        }
        TINFLStatus::Done | TINFLStatus::HasMoreOutput => {
            Err(reader.error(Kind::CompressedSize { claimed }))
        }
        _ => Err(reader.error(Kind::Compressed)),
    }
}

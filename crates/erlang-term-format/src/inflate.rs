//! Compressed terms: tag 80, the length of the content, a zlib stream.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::error::DecodeErrorKind as Kind;
use crate::limits::Limits;
use crate::reader::{Reader, Result};
use crate::tag;

/// Where the term itself is.
pub(crate) enum Content<'b> {
    /// In the input.
    Plain(Reader<'b>),
    /// In what the input inflated to.
    Inflated(Vec<u8>),
}

/// Deflate never makes more of one byte.
const RATIO_MAX: usize = 1032;

/// Reads the version byte, and inflates what is compressed.
pub(crate) fn open<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Content<'b>> {
    let mut reader = Reader::new(bytes, limits)?;
    match reader.u8()? {
        tag::VERSION => {}
        version => {
            let error = reader.again(0).error(Kind::Version(version));
            return Err(error);
        }
    }
    if reader.peek()? != tag::COMPRESSED {
        return Ok(Content::Plain(reader));
    }
    reader.u8()?;
    let claimed = reader.u32_length()?;
    inflate(&mut reader, claimed, limits).map(Content::Inflated)
}

/// Inflates to exactly `claimed` bytes, which must be possible and allowed.
fn inflate(reader: &mut Reader<'_>, claimed: usize, limits: &Limits) -> Result<Vec<u8>> {
    if claimed > limits.bytes_max {
        let (bytes, max) = (claimed, limits.bytes_max);
        return Err(reader.error(Kind::TooLarge { bytes, max }));
    }
    let at = reader.clone();
    let stream = reader.rest();
    if claimed > stream.len().saturating_mul(RATIO_MAX) {
        return Err(at.error(Kind::CompressedSize { claimed }));
    }
    let mut content = vec![0; claimed];
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = Box::new(DecompressorOxide::new());
    let (status, consumed, written) = decompress(&mut state, stream, &mut content, 0, flags);
    match status {
        TINFLStatus::Done if written == claimed && consumed == stream.len() => Ok(content),
        TINFLStatus::Done if written == claimed => {
            Err(at.error(Kind::TrailingBytes(stream.len() - consumed)))
        }
        TINFLStatus::Done | TINFLStatus::HasMoreOutput => {
            Err(at.error(Kind::CompressedSize { claimed }))
        }
        _ => Err(at.error(Kind::Compressed)),
    }
}

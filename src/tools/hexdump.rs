//! Bytes of a stream as `hexdump -C` shows them, one of them marked.

use std::fmt::Write;

/// Bytes in a line.
const LINE: usize = 16;

/// Lines before and after the marked one.
const AROUND: usize = 1;

/// The lines around `mark`, which is an index into `bytes` or their end. Lines
/// begin where they would in a dump of the whole stream, of which `bytes` are
/// those from `offset` on.
pub(super) fn around(bytes: &[u8], offset: u64, mark: usize) -> String {
    // What comes before the bytes in their first line.
    let lead = usize::try_from(offset % LINE as u64).expect("below 16");
    let marked_line = (lead + mark) / LINE;
    let lines = (lead + bytes.len()).div_ceil(LINE).max(marked_line + 1);
    let shown = marked_line.saturating_sub(AROUND)..(marked_line + AROUND + 1).min(lines);
    let mut text = String::new();
    for line in shown {
        let at = offset - lead as u64 + (line * LINE) as u64;
        let cells: [Option<u8>; LINE] = std::array::from_fn(|column| {
            let index = (line * LINE + column).checked_sub(lead)?;
            bytes.get(index).copied()
        });
        text.push_str(&row(at, &cells));
        if line == marked_line {
            text.push_str(&marker((lead + mark) % LINE));
        }
    }
    text
}

fn row(at: u64, cells: &[Option<u8>; LINE]) -> String {
    let mut text = format!("{at:08x} ");
    for (column, cell) in cells.iter().enumerate() {
        text.push_str(if column % 8 == 0 { " " } else { "" });
        match cell {
            Some(byte) => write!(text, "{byte:02x} ").expect("a string takes everything"),
            None => text.push_str("   "),
        }
    }
    let shown = cells.iter().map(|cell| match cell {
        Some(byte @ b' '..=b'~') => char::from(*byte),
        Some(_) => '.',
        None => ' ',
    });
    writeln!(text, " |{}|", shown.collect::<String>()).expect("a string takes everything");
    text
}

fn marker(column: usize) -> String {
    let before = "00000000  ".len() + 3 * column + column / 8;
    format!("{:before$}^^\n", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_where_they_would_in_a_dump_of_the_whole_stream() {
        let bytes: Vec<u8> = (0..40).collect();
        let expected = "\
00000020           03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |   .............|
00000030  10 11 12 13 14 15 16 17  18 19 1a 1b 1c 1d 1e 1f  |................|
                                   ^^
00000040  20 21 22 23 24 25 26 27                           | !\"#$%&'        |
";
        assert_eq!(around(&bytes[3..], 0x23, 0x18 - 3), expected);
    }

    #[test]
    fn the_end_can_be_marked() {
        let expected = "\
00000000  61 62                                             |ab              |
                ^^
";
        assert_eq!(around(b"ab", 0, 2), expected);
    }
}

//! The operating system's own words for an error, as our messages have them.

use std::io;

/// Lower case, and without the number, which has a place of its own:
/// `no space left on device`.
pub(crate) fn os_words(error: &io::Error) -> String {
    let text = error.to_string();
    let mut words = text.split(" (os error").next().unwrap_or_default().to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_capital_and_no_number() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(os_words(&error), "no space left on device");
        assert_eq!(os_words(&io::Error::other("")), "");
    }
}

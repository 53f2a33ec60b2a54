//! What an OCI runtime says of its failure, from the log that runtimes write: a
//! JSON object a line. Looks for one string of it, and believes nothing else.

/// The message of the last line that is an error, else the last line.
pub(super) fn words(log: &str) -> Option<String> {
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next()?;
    Some(lines.find_map(error_in).unwrap_or_else(|| last.to_owned()))
}

fn error_in(line: &str) -> Option<String> {
    let is_error = [r#""level":"error""#, r#""level":"fatal""#].iter().any(|it| line.contains(it));
    let (_, text) = line.split_once(r#""msg":""#).filter(|_| is_error)?;
    Some(unescaped(text))
}

/// A JSON string up to its end, on one line.
fn unescaped(text: &str) -> String {
    let mut said = String::new();
    let mut signs = text.chars();
    while let Some(sign) = signs.next().filter(|sign| *sign != '"') {
        said.push(match sign {
            '\\' => escaped(&mut signs),
            sign => sign,
        });
    }
    said
}

fn escaped(signs: &mut std::str::Chars<'_>) -> char {
    match signs.next() {
        Some('u') => {
            let digits: String = signs.by_ref().take(4).collect();
            let number = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
            number.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        Some('n' | 'r' | 't' | 'b' | 'f') | None => ' ',
        Some(sign) => sign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_among_warnings() {
        let crun =
            r#"{"msg":"executable file `/a` not found in $PATH","level":"error","time":"x"}"#;
        assert_eq!(words(crun).unwrap(), "executable file `/a` not found in $PATH");
        let runc = concat!(
            r#"{"level":"error","msg":"runc create failed: exec: \"/a\": \u0061 \\ b\nc","time":"x"}"#,
            "\n",
            r#"{"error":"openat2","level":"warning","msg":"unable to get oom kill count"}"#,
            "\n",
        );
        assert_eq!(words(runc).unwrap(), r#"runc create failed: exec: "/a": a \ b c"#);
    }

    #[test]
    fn what_is_no_json_is_told_as_it_is() {
        assert_eq!(words("one\ntwo\n\n").unwrap(), "two");
        assert_eq!(words(r#"{"level":"error","msg":"cut \u00"#).unwrap(), "cut \u{fffd}");
        assert_eq!(words("\n"), None);
    }
}

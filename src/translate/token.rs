//! The filter's own id of a request: unlike any other, and the original can be told from it.
//!
//! ```text
//! token    = quotation-mark "mcpsf~" 16HEXDIG "~" 1*( plain / "~" 2HEXDIG ) quotation-mark
//! plain    = ALPHA / DIGIT / "-" / "." / "_"
//! ```
//!
//! The digits are the nonce; behind them stands the original's JSON text as it was spelled, so that `1`, `"1"` and
//! `1.0` stay apart. It is encoded like a URL, with `~` for `%`: no byte of a token is one that some JSON writer
//! escapes, a number can be read in a server's log as it is, and no table has to be kept to get it back.

use std::fmt::Write as _;

use serde_json::Value;

/// The longest original that is translated, in bytes of JSON text. A longer id goes up as it is.
pub const MAX_ORIGINAL_BYTES: usize = 4096;

/// The longest token, in bytes: every byte of its original is encoded.
pub const MAX_BYTES: usize = HEAD.len() + NONCE_DIGITS + 1 + 3 * MAX_ORIGINAL_BYTES + 1;

const HEAD: &[u8] = b"\"mcpsf~";
const NONCE_DIGITS: usize = 16;

/// The token for an id, if it is a JSON string or number of bounded length. `null` is no id (JSON-RPC 2.0, section 4).
#[must_use]
pub fn encode(nonce: u64, original: &[u8]) -> Option<Vec<u8>> {
    if original.len() > MAX_ORIGINAL_BYTES || !is_string_or_number(original) {
        return None;
    }
    let mut token = format!("{nonce:016x}~");
    for &byte in original {
        if is_plain(byte) {
            token.push(byte.into());
        } else {
            // Writing to a `String` can't fail.
            let _ = write!(token, "~{byte:02x}");
        }
    }
    token.push('"');
    Some([HEAD, token.as_bytes()].concat())
}

/// The original of a token. Nothing for any other text, however alike it looks: only what [`encode`] makes is a token.
#[must_use]
pub fn decode(token: &[u8]) -> Option<Vec<u8>> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let body = token.strip_prefix(HEAD)?.strip_suffix(b"\"")?;
    let (nonce, encoded) = body.split_at_checked(NONCE_DIGITS)?;
    let nonce = u64::from_str_radix(str::from_utf8(nonce).ok()?, 16).ok()?;
    let mut original = Vec::with_capacity(encoded.len());
    let mut rest = encoded.strip_prefix(b"~")?;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'~' {
            let (digits, after) = rest.split_at_checked(2)?;
            rest = after;
            original.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        } else {
            original.push(*byte);
        }
    }
    // There is one token for a nonce and an original: other digits or escapes are not ours.
    (encode(nonce, &original)? == token).then_some(original)
}

/// The nonce of a token that [`encode`] made.
#[must_use]
pub fn nonce(token: &[u8]) -> Option<u64> {
    let (nonce, _) = token.strip_prefix(HEAD)?.split_at_checked(NONCE_DIGITS)?;
    u64::from_str_radix(str::from_utf8(nonce).ok()?, 16).ok()
}

/// Whether a text that begins like this may still become a token.
pub(super) fn may_begin(start: &[u8]) -> bool {
    start.len() <= MAX_BYTES && start.iter().zip(HEAD).all(|(byte, head)| byte == head)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// Space around a value is not part of it. What `serde_json` can't hold (lone surrogates, `1e999`) counts as neither.
fn is_string_or_number(text: &[u8]) -> bool {
    let trimmed = text.trim_ascii().len() == text.len();
    let value = serde_json::from_slice(text);
    trimmed && matches!(value, Ok(Value::String(_) | Value::Number(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: Option<Vec<u8>>) -> Option<String> {
        token.map(|token| String::from_utf8(token).unwrap())
    }

    #[test]
    fn a_token_shows_the_nonce_and_the_original_and_gives_it_back_as_it_was_spelled() {
        let cases = [
            ("0", r#""mcpsf~00000000000000a1~0""#),
            ("1.0", r#""mcpsf~00000000000000a1~1.0""#),
            ("-12E+5", r#""mcpsf~00000000000000a1~-12E~2b5""#),
            (r#""1""#, r#""mcpsf~00000000000000a1~~221~22""#),
            (r#""a-_.~b""#, r#""mcpsf~00000000000000a1~~22a-_.~7eb~22""#),
            (r#""""#, r#""mcpsf~00000000000000a1~~22~22""#),
            (
                "\"\u{e9}\\u00e9\"",
                r#""mcpsf~00000000000000a1~~22~c3~a9~5cu00e9~22""#,
            ),
        ];
        for (original, token) in cases {
            let made = encode(0xA1, original.as_bytes());
            assert_eq!(text(made).as_deref(), Some(token), "{original}");
            let back = text(decode(token.as_bytes()));
            assert_eq!(back.as_deref(), Some(original), "{token}");
        }
        assert_ne!(encode(1, b"1"), encode(u64::MAX, b"1"));
        let twice = encode(1, &encode(2, b"3").unwrap()).unwrap();
        assert_eq!(decode(&decode(&twice).unwrap()), Some(b"3".to_vec()));
    }

    #[test]
    fn what_is_no_json_string_or_number_has_no_token() {
        let others = [
            "", "null", "true", "NaN", "01", "1.", "+1", "-", "1e", ".5", "0x1", " 1", "1 ", "1\n",
            "1,2", "[1]", "{}", "'1'", "\"", "\"a", "a\"", "\"a\"b\"", "\"a\nb\"", "\"\\x\"",
            "\"a\" ",
        ];
        for other in others {
            assert_eq!(encode(1, other.as_bytes()), None, "{other:?}");
            let hex: Vec<_> = other.bytes().map(|byte| format!("~{byte:02x}")).collect();
            let forged = format!("\"mcpsf~0000000000000001~{}\"", hex.concat());
            assert_eq!(decode(forged.as_bytes()), None, "{forged}");
        }
        assert_eq!(encode(1, b"\"\xFF\""), None, "JSON is UTF-8");
        assert_eq!(encode(1, b"1\0"), None);
    }

    #[test]
    fn only_what_is_encoded_here_is_decoded() {
        let sound = r#""mcpsf~00000000000000a1~~221~22""#;
        assert!(decode(sound.as_bytes()).is_some());
        for (from, to) in [
            ("mcpsf", "MCPSF"),
            ("mcpsf", "mcpsg"),
            ("mcpsf~", "mcpsf-"),
            ("00a1", "00A1"),
            ("00a1", "0a1"),
            ("00a1", "000a1"),
            ("~0000", "~+000"),
            ("~0000", "~000g"),
            ("a1~", "a1-"),
            ("~221", "~22~31"),
            ("~221", "~22 1"),
            ("~221", "~22/1"),
            ("~22\"", "~2\""),
            ("~22\"", "~\""),
            ("~22\"", "~22"),
            ("~22\"", "~22\" "),
            ("~22\"", "~22~22\""),
            ("~22\"", "~+2\""),
            ("~22\"", "~2\u{e9}\""),
            ("a1~~221~22", "a1~"),
            ("a1~~221~22", "a1"),
            ("~00000000000000a1~~221~22", "~"),
            ("mcpsf", "\\u006dcpsf"),
            ("~22\"", "~5c~22\""),
        ] {
            let other = sound.replacen(from, to, 1);
            assert_ne!(other, sound, "{from} for {to}");
            assert_eq!(decode(other.as_bytes()), None, "{other}");
        }
        for end in 0..sound.len() {
            assert_eq!(decode(&sound.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(decode(b"\"mcpsf~\""), None);
        assert_eq!(decode(b"\"mcpsf~"), None);
    }

    #[test]
    fn originals_have_tokens_up_to_the_bound() {
        let long = |bytes: usize| format!("\"{}\"", "\u{e9}".repeat(bytes / 2 - 1));
        let longest = long(MAX_ORIGINAL_BYTES);
        let token = encode(u64::MAX, longest.as_bytes()).unwrap();
        assert_eq!(decode(&token).as_deref(), Some(longest.as_bytes()));
        assert_eq!(token.len(), MAX_BYTES);
        assert!(may_begin(&token) && !may_begin(&[&token[..], b"~"].concat()));
        assert_eq!(encode(1, long(MAX_ORIGINAL_BYTES + 2).as_bytes()), None);
        let encoded = "~22".repeat(MAX_ORIGINAL_BYTES + 1);
        let forged = format!("\"mcpsf~0000000000000001~{encoded}\"");
        assert_eq!(decode(forged.as_bytes()), None);
    }
}

//! The bodies that are read: about 1 MiB each, with method and id last.

const SIZE: usize = 1 << 20;
const LINE: &str = "a line of a source file, as agents send them to and fro, of usual length\\n";
const VALUE: &str = r#"{"name":"search","score":0.25,"tags":["a","b"],"found":true},"#;

/// What they are called.
pub const NAMES: [&str; 3] = [
    "one long text",
    "a text with an escape in each line",
    "many small values",
];

/// The one of this number; nothing if there is none.
pub fn body(number: usize) -> Option<Vec<u8>> {
    let data = match number {
        0 => format!("\"{}\"", "x".repeat(SIZE)),
        1 => format!("\"{}\"", repeated(LINE)),
        2 => format!("[{}0]", repeated(VALUE)),
        _ => return None,
    };
    Some(
        format!(r#"{{"jsonrpc":"2.0","params":{{"data":{data}}},"method":"tools/call","id":1}}"#)
            .into_bytes(),
    )
}

fn repeated(text: &str) -> String {
    text.repeat(SIZE / text.len())
}

//! Bodies and streams made at random, and broken at random.

use std::fmt::Write as _;

/// A body that is JSON: mostly one message, else a batch or any value.
pub(super) fn body(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    if random.one_in(16) {
        text.push('\u{FEFF}');
    }
    space(&mut text, random);
    match random.below(8) {
        0 => value(&mut text, 3, random),
        1 | 2 => list(&mut text, "[]", random, |text, random| {
            if random.one_in(6) {
                value(text, 2, random);
            } else {
                message(text, random);
            }
        }),
        _ => message(&mut text, random),
    }
    space(&mut text, random);
    text.into_bytes()
}

/// A stream of bodies, each in one event, with its line breaks between `data` lines.
pub(super) fn stream(random: &mut Random, mut body: impl FnMut(&mut Random) -> Vec<u8>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.below(4) {
        let body = body(random);
        for line in body.split(|&byte| byte == b'\n' || byte == b'\r') {
            if random.one_in(4) {
                let other = [
                    "id: 7",
                    ":",
                    ": {\"id\":1}",
                    "event:message",
                    "retry: 1",
                    "data",
                ];
                stream.extend_from_slice(random.pick(&other).as_bytes());
                end_line(&mut stream, random);
            }
            stream.extend_from_slice(random.pick(&["data: ", "data:"]).as_bytes());
            stream.extend_from_slice(line);
            end_line(&mut stream, random);
        }
        end_line(&mut stream, random);
    }
    stream
}

fn end_line(stream: &mut Vec<u8>, random: &mut Random) {
    stream.extend_from_slice(random.pick(&["\n", "\n", "\r\n", "\r"]).as_bytes());
}

fn message(text: &mut String, random: &mut Random) {
    list(text, "{}", random, |text, random| {
        let key = match random.below(6) {
            0 | 1 => "id",
            2 | 3 => random.pick(&["method", "method", "method", "method", "result", "error"]),
            4 => "params",
            _ => random.pick(&[
                "jsonrpc",
                "ids",
                "a key longer than any of ours",
                "",
                "\u{e9}\"",
            ]),
        };
        member(text, key, random, |text, random| match key {
            "id" if !random.one_in(6) => id(text, random),
            "method" if !random.one_in(8) => {
                let name = [
                    "ping",
                    "notifications/cancelled",
                    "notifications/cancelled",
                    "n\"",
                    "",
                ];
                string(text, random.pick(&name), random);
            }
            "params" if !random.one_in(4) => list(text, "{}", random, |text, random| {
                let key = random.pick(&["requestId", "requestId", "id", "method", "a"]);
                member(text, key, random, id);
            }),
            _ => value(text, 2, random),
        });
    });
}

fn id(text: &mut String, random: &mut Random) {
    match random.below(8) {
        0 => value(text, 1, random),
        1 => string(
            text,
            random.pick(&["", "1", "\u{1F600}\\\"", "mcpsf~", "~7"]),
            random,
        ),
        _ => text.push_str(random.pick(&["0", "1", "2", "1.0", "-3E+2"])),
    }
}

fn value(text: &mut String, depth: usize, random: &mut Random) {
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => text.push_str(random.pick(&["null", "true", "false"])),
        1 => text.push_str(random.pick(&["0", "-1", "12.50e+7", "123456789012345678901234"])),
        2 => string(
            text,
            random.pick(&["id", "{[\"", "]}\\", "\u{1F600}\n"]),
            random,
        ),
        3 => string(
            text,
            random.pick(&["", ",", ":", "\\\"", "\"id\":1,"]),
            random,
        ),
        4 => list(text, "[]", random, |text, random| {
            value(text, depth - 1, random);
        }),
        _ => list(text, "{}", random, |text, random| {
            let key = random.pick(&["id", "method", "result", "}", "requestId"]);
            member(text, key, random, |text, random| {
                value(text, depth - 1, random);
            });
        }),
    }
}

fn member(
    text: &mut String,
    key: &str,
    random: &mut Random,
    value: impl FnOnce(&mut String, &mut Random),
) {
    string(text, key, random);
    space(text, random);
    text.push(':');
    space(text, random);
    value(text, random);
}

/// Up to six items with commas between.
fn list(
    text: &mut String,
    brackets: &str,
    random: &mut Random,
    item: impl Fn(&mut String, &mut Random),
) {
    text.push_str(&brackets[..1]);
    space(text, random);
    for index in 0..random.below(7) {
        if index > 0 {
            text.push(',');
            space(text, random);
        }
        item(text, random);
        space(text, random);
    }
    text.push_str(&brackets[1..]);
}

/// A string in which any character may be escaped.
fn string(text: &mut String, content: &str, random: &mut Random) {
    text.push('"');
    for char in content.chars() {
        let must = matches!(char, '"' | '\\' | '\0'..='\x1F');
        if matches!(char, '"' | '\\' | '/') && random.one_in(2) {
            text.push('\\');
            text.push(char);
        } else if must || random.one_in(20) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(char);
        }
    }
    text.push('"');
}

fn space(text: &mut String, random: &mut Random) {
    while random.one_in(8) {
        text.push_str(random.pick(&[" ", "\t", "\n", "\r"]));
    }
}

/// One small change anywhere.
pub(super) fn damage(body: &mut Vec<u8>, random: &mut Random) {
    const TELLING: &[u8] = b"\"\\{}[]:, \n\r0-eumid\xEF\xBB\xBF\xFF\0";
    let at = random.below(body.len() + 1);
    let telling = TELLING[random.below(TELLING.len())];
    match random.below(6) {
        0 => body.insert(at, telling),
        1 => body.truncate(at),
        2 => {
            let end = body.len().min(at + random.below(8));
            body.drain(at..end);
        }
        3 => {
            let end = body.len().min(at + random.below(30));
            body.extend_from_within(at..end);
        }
        kind => {
            let bit = 1 << random.below(8);
            if let Some(byte) = body.get_mut(at) {
                *byte = if kind == 4 { telling } else { *byte ^ bit };
            }
        }
    }
}

/// Splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

//! Bodies and streams made at random, for translation; [`crate::bodies`] breaks them.

use crate::bodies::{Random, list, member, space, string};

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

//! The filter's own ids in bodies: what they stand for, and the answers of a server that saw them.

use mcp_session_filter::translate::token;

const START: &[u8] = b"\"mcpsf~";

/// An id of the filter's, as JSON text, and the one that the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    pub token: Vec<u8>,
    pub original: Vec<u8>,
}

/// The ids that were translated on the way from one body to the other, or where the two differ otherwise.
pub fn between(before: &[u8], after: &[u8]) -> Result<Vec<Translated>, usize> {
    let (mut from, mut to) = (before, after);
    let mut all = Vec::new();
    loop {
        if let Some(translated) = first(to)
            && let Some(rest) = from.strip_prefix(translated.original.as_slice())
        {
            from = rest;
            to = &to[translated.token.len()..];
            all.push(translated);
            continue;
        }
        match (from, to) {
            ([], []) => return Ok(all),
            ([a, rest @ ..], [b, more @ ..]) if a == b => (from, to) = (rest, more),
            _ => return Err(after.len() - to.len()),
        }
    }
}

/// The ids that were translated in each of these bodies that is this request's, sent again by the filter.
pub fn sent_again<'a>(
    request: &[u8],
    bodies: impl Iterator<Item = &'a Vec<u8>>,
) -> Vec<Vec<Translated>> {
    let bodies = bodies.filter(|body| !body.is_empty());
    bodies
        .filter_map(|body| between(request, body).ok())
        .collect()
}

/// The ids of the filter's anywhere in a body.
pub fn within(body: &[u8]) -> Vec<Translated> {
    (0..body.len())
        .filter_map(|at| first(&body[at..]))
        .collect()
}

/// What a server answers that saw the filter's ids: with them wherever the script has `"id":` and the client's.
pub fn answered(script: &[u8], seen: &[Translated]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(script.len());
    let mut rest = script;
    while let [byte, after @ ..] = rest {
        if let Some((name, id)) = seen.iter().find_map(|id| Some((member(rest, id)?, id))) {
            answer.extend_from_slice(name);
            answer.extend_from_slice(&id.token);
            rest = &rest[name.len() + id.original.len()..];
        } else {
            answer.push(*byte);
            rest = after;
        }
    }
    answer
}

/// The `"id":` in front of this original, if the text starts with both.
fn member<'a>(text: &'a [u8], id: &Translated) -> Option<&'a [u8]> {
    let names: [&[u8]; 2] = [b"\"id\": ", b"\"id\":"];
    let name = names.into_iter().find(|name| text.starts_with(name))?;
    let behind = text[name.len()..].strip_prefix(id.original.as_slice())?;
    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
    behind
        .first()
        .is_none_or(ends)
        .then_some(&text[..name.len()])
}

fn first(text: &[u8]) -> Option<Translated> {
    if !text.starts_with(START) {
        return None;
    }
    let end = 1 + text[1..].iter().position(|byte| *byte == b'"')?;
    let token = text[..=end].to_vec();
    let original = token::decode(&token)?;
    Some(Translated { token, original })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(original: &[u8]) -> (String, Translated) {
        let token = token::encode(7, original).unwrap();
        let text = String::from_utf8(token.clone()).unwrap();
        let original = original.to_vec();
        (text, Translated { token, original })
    }

    #[test]
    fn nothing_but_ids_may_differ_between_two_bodies() {
        let (token, translated) = one(b"1");
        let after = format!(r#"{{"id":{token},"a":1}}"#);
        let found = between(br#"{"id":1,"a":1}"#, after.as_bytes());
        assert_eq!(found, Ok(vec![translated]));
        assert_eq!(between(b"{}", b"{}"), Ok(vec![]));
        assert_eq!(between(token.as_bytes(), token.as_bytes()), Ok(vec![]));
        assert_eq!(between(br#"{"id":2,"a":1}"#, after.as_bytes()), Err(6));
        assert_eq!(between(b"{}", b"{} "), Err(2));
        assert_eq!(between(b"{} ", b"{}"), Err(2));
        let (twice, translated) = one(token.as_bytes());
        assert_eq!(
            between(token.as_bytes(), twice.as_bytes()),
            Ok(vec![translated])
        );
    }

    #[test]
    fn a_server_answers_with_the_ids_that_it_saw() {
        let (token, translated) = one(b"1");
        let script = r#"[{"id":1},{"id": 1 },{"id":12},{"id":"1"},{"x":1}]"#;
        let expected =
            format!(r#"[{{"id":{token}}},{{"id": {token} }},{{"id":12}},{{"id":"1"}},{{"x":1}}]"#);
        let answer = answered(script.as_bytes(), std::slice::from_ref(&translated));
        assert_eq!(String::from_utf8(answer.clone()).unwrap(), expected);
        assert_eq!(within(&answer), [translated.clone(), translated]);
    }
}

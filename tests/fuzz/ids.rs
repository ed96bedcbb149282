//! JSON-RPC ids: in requests and in JSON answers nothing but ids changes, wherever a body is cut, and all come back.

use mcp_session_filter::initialize::{Initialize, id_of};
use mcp_session_filter::translate::Incoming;

use crate::bodies::Random;
use crate::translation::{self, Json, align, come_down, pieces};

/// Checks a body: as a request, as an answer, and as an `initialize` that the filter answers.
pub fn check(body: &[u8]) {
    let mut random = Random::of(body);
    translation::check(body, &mut random);

    let out = come_down(Incoming::json(), &[body]);
    assert!(come_down(Incoming::json(), &pieces(body, &mut random)) == out);
    assert!(put_back(Incoming::json(), &pieces(body, &mut random)) == out);
    align(body, &out);
    if Json::read(body).is_some() {
        assert!(Json::read(&out).is_some(), "what was JSON is JSON still");
    }

    check_id(body);
    if let Some(initialize) = Initialize::parse(body.to_vec()) {
        check_initialize(&initialize);
    }
}

/// As the filter has answers go on: a piece that does not change is not copied.
pub(crate) fn put_back(mut incoming: Incoming, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let changed = incoming.put_back(piece, false);
        out.extend(changed.unwrap_or_else(|| piece.to_vec()));
    }
    out.extend(incoming.put_back(&[], true).unwrap_or_default());
    out
}

/// The id of a message is the last that stands there, as it stands there.
fn check_id(body: &[u8]) {
    let Some(Json::Object(members)) = Json::read(body) else {
        return;
    };
    let last = members.into_iter().rfind(|(key, _)| key == "id");
    let found = id_of(body);
    assert_eq!(
        found.as_deref().and_then(Json::read),
        last.map(|(_, id)| id)
    );
    if let Some(id) = found {
        assert!(body.windows(id.len()).any(|text| text == id));
    }
}

fn check_initialize(initialize: &Initialize) {
    assert_eq!(Some(&initialize.id), id_of(&initialize.body).as_ref());
    let Some(anybody) = initialize.for_anybody() else {
        return;
    };
    let anybody = Initialize::parse(anybody).expect("it is one");
    assert_eq!(anybody.capabilities, "{}");
    assert_eq!(initialize.capabilities, "{}");
}

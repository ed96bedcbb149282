//! What any filter that repairs sessions costs: the hostcalls that none can do without, and no thought.
//!
//! Who is it (the request's headers), for which server (the cluster), is there a session (shared data), is it an
//! `initialize` (the body, while the headers wait), here is its id (a header), and is the session still there (the
//! answer's headers). The calls are declared here, as the filter's own are: the SDK's wrappers do more.

use std::ptr;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
}

const REQUEST: u32 = 0;
const ANSWER: u32 = 2;
const REQUEST_BODY: u32 = 0;

const CLUSTER: &[u8] = b"xds\0cluster_name";
const KEY: &[u8] = b"the place of this caller";
const NAME: &[u8] = b"mcp-session-id";
/// What everyone gets.
const SESSION: &[u8] = b"session-silent";
/// As long as a record of the filter's.
const RECORD: [u8; 100] = [0; 100];

/// Writes the record that each request then reads.
pub fn remember() -> bool {
    // SAFETY: key and value live during the call.
    let status =
        unsafe { proxy_set_shared_data(KEY.as_ptr(), KEY.len(), RECORD.as_ptr(), RECORD.len(), 0) };
    status == 0
}

pub struct Floor;

impl Context for Floor {}

impl HttpContext for Floor {
    fn on_http_request_headers(&mut self, _: usize, ended: bool) -> Action {
        // SAFETY: `receive` passes valid pointers, and what else is pointed to lives during the calls.
        unsafe {
            receive(|data, size| proxy_get_header_map_pairs(REQUEST, data, size));
            receive(|data, size| proxy_get_property(CLUSTER.as_ptr(), CLUSTER.len(), data, size));
            let mut cas = 0;
            receive(|data, size| {
                proxy_get_shared_data(KEY.as_ptr(), KEY.len(), data, size, &raw mut cas)
            });
        }
        if ended {
            Action::Continue
        } else {
            Action::Pause
        }
    }

    fn on_http_request_body(&mut self, size: usize, _: bool) -> Action {
        if size > 0 {
            // SAFETY: as above.
            unsafe {
                receive(|data, read| proxy_get_buffer_bytes(REQUEST_BODY, 0, size, data, read));
                proxy_replace_header_map_value(
                    REQUEST,
                    NAME.as_ptr(),
                    NAME.len(),
                    SESSION.as_ptr(),
                    SESSION.len(),
                );
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        // SAFETY: as above.
        unsafe { receive(|data, size| proxy_get_header_map_pairs(ANSWER, data, size)) };
        Action::Continue
    }
}

/// Runs a call that hands over bytes, and frees them.
fn receive(run: impl FnOnce(*mut *mut u8, *mut usize) -> u32) {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    if run(&raw mut data, &raw mut size) == 0 && !data.is_null() {
        // SAFETY: the host got the bytes from the SDK's `proxy_on_memory_allocate`, which makes a boxed slice of just
        // this size (ABI 0.2.1, Memory).
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)) });
    }
}

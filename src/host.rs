//! The hostcalls that the filter needs (proxy-wasm ABI 0.2.1), declared here: bytes in, bytes or an error out.
//!
//! The SDK's own wrappers panic on any status that they don't list, on header values that are not UTF-8, and when the
//! host refuses a call; a panic ends the worker's VM. Here a status is a number, known or not, and an answer is bytes.
#![allow(unsafe_code, reason = "the only file that crosses into the host")]

use std::cell::OnceCell;
use std::ptr;
use std::time::Duration;

use crate::errand::Answer;
use crate::headers::Headers;
use crate::platform::{Platform, PlatformError, Store, Stored, Written};
use crate::reply::Reply;
use crate::time::Millis;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        data: *const u8,
        data_size: usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm_id: *const u8,
        vm_id_size: usize,
        name: *const u8,
        name_size: usize,
        id: *mut u32,
    ) -> u32;
    fn proxy_dequeue_shared_queue(id: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_enqueue_shared_queue(id: u32, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
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
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;
/// Not of the ABI: the host said that all is well, and handed over what can't be read.
const UNREADABLE: u32 = u32::MAX;

type Result<T> = std::result::Result<T, PlatformError>;

/// `proxy_header_map_type_t`
#[derive(Clone, Copy)]
pub(crate) enum Map {
    Request = 0,
    Answer = 2,
    CallAnswer = 6,
}

/// `proxy_buffer_type_t`
#[derive(Clone, Copy)]
pub(crate) enum Buffer {
    RequestBody = 0,
    AnswerBody = 1,
    CallAnswerBody = 4,
    Configuration = 7,
}

/// `proxy_stream_type_t`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Request = 0,
    Answer = 1,
}

/// `proxy_metric_type_t`
#[derive(Clone, Copy)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
}

/// A metric that the host knows.
#[derive(Clone, Copy)]
pub(crate) struct Metric(u32);

fn check(call: &'static str, status: u32) -> Result<()> {
    match status {
        OK => Ok(()),
        status => Err(PlatformError { call, status }),
    }
}

/// Runs a call that hands over bytes: it is given where to put their address and size.
fn receive(
    call: &'static str,
    run: impl FnOnce(*mut *mut u8, *mut usize) -> u32,
) -> Result<Option<Vec<u8>>> {
    let mut data = ptr::null_mut();
    let mut size = 0;
    match run(&raw mut data, &raw mut size) {
        OK if data.is_null() || size == 0 => Ok(Some(Vec::new())),
        // SAFETY: the host got the bytes from the SDK's `proxy_on_memory_allocate`, which makes a boxed slice of just
        // this size by the allocator that `Vec` uses, and hands them over to the caller (ABI 0.2.1, Memory).
        OK => Ok(Some(Vec::from(unsafe {
            Box::from_raw(ptr::slice_from_raw_parts_mut(data, size))
        }))),
        NOT_FOUND => Ok(None),
        status => Err(PlatformError { call, status }),
    }
}

/// Writes a line into the host's log.
pub(crate) fn log(level: log::Level, message: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // SAFETY: the message lives during the call. That a line could not be written is nowhere to be told.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// The level that the host logs at.
pub(crate) fn log_level() -> Result<log::LevelFilter> {
    let mut level = 0;
    // SAFETY: the pointer is valid during the call.
    check("proxy_get_log_level", unsafe {
        proxy_get_log_level(&raw mut level)
    })?;
    Ok(match level {
        0 => log::LevelFilter::Trace,
        1 => log::LevelFilter::Debug,
        2 => log::LevelFilter::Info,
        3 => log::LevelFilter::Warn,
        4 => log::LevelFilter::Error,
        _ => log::LevelFilter::Off,
    })
}

/// Has the root context's `on_tick` called again and again.
pub(crate) fn set_tick_period(period: Duration) -> Result<()> {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: numbers only.
    check("proxy_set_tick_period_milliseconds", unsafe {
        proxy_set_tick_period_milliseconds(period)
    })
}

/// So many bytes of a buffer, from `start` on: all of them, as a gap in a body could hide its method.
pub(crate) fn buffer(buffer: Buffer, start: usize, size: usize) -> Result<Vec<u8>> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let call = "proxy_get_buffer_bytes";
    // SAFETY: `receive` passes valid pointers.
    let bytes = receive(call, |data, received| unsafe {
        proxy_get_buffer_bytes(buffer as u32, start, size, data, received)
    })?;
    bytes
        .filter(|bytes| bytes.len() == size)
        .ok_or(PlatformError {
            call,
            status: UNREADABLE,
        })
}

/// Puts bytes in the place of the first `size` ones of a body; in the place of none, before all others.
pub(crate) fn set_buffer(buffer: Buffer, size: usize, bytes: &[u8]) -> Result<()> {
    // SAFETY: the bytes live during the call.
    check("proxy_set_buffer_bytes", unsafe {
        proxy_set_buffer_bytes(buffer as u32, 0, size, bytes.as_ptr(), bytes.len())
    })
}

/// Answers the request of the effective context, in the place of any server.
pub(crate) fn send_local_response(reply: &Reply) -> Result<()> {
    let headers = Headers::encode(reply.headers.iter());
    // Envoy shows the details in its access log; a gRPC status below 0 is none.
    let details = b"mcp_session_filter";
    // SAFETY: all that is pointed to lives during the call.
    check("proxy_send_local_response", unsafe {
        proxy_send_local_response(
            reply.status.into(),
            details.as_ptr(),
            details.len(),
            reply.body.as_ptr(),
            reply.body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// A shared queue that the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue(pub(crate) u32);

/// Makes this VM the one that a queue belongs to.
pub(crate) fn register_queue(name: &str) -> Result<Queue> {
    let mut id = 0;
    // SAFETY: name and pointer are valid during the call.
    check("proxy_register_shared_queue", unsafe {
        proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut id)
    })?;
    Ok(Queue(id))
}

/// Finds a queue of another VM under the same `vm_id`.
pub(crate) fn resolve_queue(name: &str) -> Result<Queue> {
    let mut id = 0;
    // SAFETY: name and pointer are valid during the call. No `vm_id` stands for this VM's own.
    check("proxy_resolve_shared_queue", unsafe {
        proxy_resolve_shared_queue(ptr::null(), 0, name.as_ptr(), name.len(), &raw mut id)
    })?;
    Ok(Queue(id))
}

/// Puts a message into a queue.
pub(crate) fn enqueue(queue: Queue, message: &[u8]) -> Result<()> {
    // SAFETY: the message lives during the call.
    check("proxy_enqueue_shared_queue", unsafe {
        proxy_enqueue_shared_queue(queue.0, message.as_ptr(), message.len())
    })
}

/// Takes a message out of a queue, if there is one.
pub(crate) fn dequeue(queue: Queue) -> Result<Option<Vec<u8>>> {
    // SAFETY: `receive` passes valid pointers.
    let message = receive("proxy_dequeue_shared_queue", |data, size| unsafe {
        proxy_dequeue_shared_queue(queue.0, data, size)
    });
    match message {
        Err(PlatformError { status: EMPTY, .. }) => Ok(None),
        message => message,
    }
}

/// All headers.
pub(crate) fn headers(map: Map) -> Result<Headers> {
    let call = "proxy_get_header_map_pairs";
    // SAFETY: `receive` passes valid pointers.
    let bytes = receive(call, |data, size| unsafe {
        proxy_get_header_map_pairs(map as u32, data, size)
    });
    Headers::decode(bytes?.unwrap_or_default()).ok_or(PlatformError {
        call,
        status: UNREADABLE,
    })
}

/// What a server answered to a request of the filter's own, with so many bytes of its body; nothing if it did not.
pub(crate) fn call_answer(body_size: usize) -> Result<Option<Answer>> {
    let headers = headers(Map::CallAnswer)?;
    if headers.status().is_none() {
        return Ok(None);
    }
    let body = buffer(Buffer::CallAnswerBody, 0, body_size)?;
    Ok(Some(Answer { headers, body }))
}

/// Sets a header.
pub(crate) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<()> {
    // SAFETY: name and value live during the call.
    check("proxy_replace_header_map_value", unsafe {
        proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes all lines of a header.
pub(crate) fn remove_header(map: Map, name: &str) -> Result<()> {
    // SAFETY: the name lives during the call.
    check("proxy_remove_header_map_value", unsafe {
        proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len())
    })
}

/// Sets a property of the request, for the access log.
pub(crate) fn set_property(path: &str, value: &str) -> Result<()> {
    // SAFETY: path and value live during the call.
    check("proxy_set_property", unsafe {
        proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len())
    })
}

/// Lets a paused stream of the effective context go on.
pub(crate) fn resume(stream: Stream) -> Result<()> {
    // SAFETY: numbers only.
    check("proxy_continue_stream", unsafe {
        proxy_continue_stream(stream as u32)
    })
}

/// Makes another context the one that calls are about. Refused, it leaves the previous one in effect.
pub(crate) fn set_effective_context(context: u32) -> Result<()> {
    // SAFETY: numbers only.
    check("proxy_set_effective_context", unsafe {
        proxy_set_effective_context(context)
    })
}

/// Makes a metric known, or finds it again.
pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Result<Metric> {
    let mut id = 0;
    // SAFETY: name and pointer are valid during the call.
    check("proxy_define_metric", unsafe {
        proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id)
    })?;
    Ok(Metric(id))
}

/// Adds to a counter.
pub(crate) fn increment(metric: Metric, by: i64) -> Result<()> {
    // SAFETY: numbers only.
    check("proxy_increment_metric", unsafe {
        proxy_increment_metric(metric.0, by)
    })
}

/// Sets a gauge.
pub(crate) fn record(metric: Metric, value: u64) -> Result<()> {
    // SAFETY: numbers only.
    check("proxy_record_metric", unsafe {
        proxy_record_metric(metric.0, value)
    })
}

/// A clock that can't be read stands at zero: sessions then expire later, not sooner.
fn now() -> Millis {
    let mut nanoseconds = 0;
    // SAFETY: the pointer is valid during the call.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    match status {
        OK => Millis(nanoseconds / 1_000_000),
        _ => Millis::default(),
    }
}

/// The host as the core sees it during one callback, in which time stands still.
#[derive(Default)]
pub(crate) struct Host {
    now: OnceCell<Millis>,
    is_crowded: bool,
}

impl Host {
    /// A host where no more requests may wait.
    pub(crate) fn crowded(is_crowded: bool) -> Self {
        Self {
            is_crowded,
            ..Self::default()
        }
    }
}

impl Store for Host {
    fn read(&self, key: &str) -> Result<Option<Stored>> {
        let mut token = 0;
        // SAFETY: key and token are valid during the call, and `receive` passes valid pointers.
        let value = receive("proxy_get_shared_data", |data, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut token)
        })?;
        Ok(value.map(|value| Stored { value, token }))
    }

    fn write(&self, key: &str, value: &[u8], token: Option<u32>) -> Result<Written> {
        // SAFETY: key and value live during the call. A token of 0 stands for "unconditionally".
        let status = unsafe {
            proxy_set_shared_data(
                key.as_ptr(),
                key.len(),
                value.as_ptr(),
                value.len(),
                token.unwrap_or(0),
            )
        };
        match status {
            CAS_MISMATCH => Ok(Written::Overtaken),
            status => check("proxy_set_shared_data", status).map(|()| Written::Done),
        }
    }
}

impl Platform for Host {
    fn now(&self) -> Millis {
        *self.now.get_or_init(now)
    }

    fn nonce(&self) -> u64 {
        getrandom::u64().unwrap_or_else(|_| self.now().0)
    }

    fn may_wait(&self) -> bool {
        !self.is_crowded
    }

    fn attribute(&self, path: &[&str]) -> Option<Vec<u8>> {
        let path = path.join("\0");
        // SAFETY: the path lives during the call, and `receive` passes valid pointers.
        let value = receive("proxy_get_property", |data, size| unsafe {
            proxy_get_property(path.as_ptr(), path.len(), data, size)
        });
        // Envoy refuses some attributes that exist: they count as absent.
        value.ok().flatten().filter(|value| !value.is_empty())
    }
}

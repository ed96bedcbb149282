//! Filters to be measured beside the one that does the work; a plugin's `root_id` chooses.

mod empty;
mod floor;

use proxy_wasm::hostcalls::get_property;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use empty::Empty;
use floor::Floor;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { is_floor: false }));
}}

struct Root {
    is_floor: bool,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let name = get_property(vec!["plugin_root_id"]);
        self.is_floor = matches!(name, Ok(Some(name)) if name == b"floor");
        !self.is_floor || floor::remember()
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(if self.is_floor {
            Box::new(Floor)
        } else {
            Box::new(Empty)
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

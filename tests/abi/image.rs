//! A started VM, to be had again without a start. Between callbacks a module is nothing but its memory.

use super::host::{Metric, Tick};
use super::queues::VmNumber;
use super::vm::Vm;
use super::world::World;

pub struct Image {
    size: usize,
    /// The pages that are not all zeros, and where they begin.
    pages: Vec<(usize, Vec<u8>)>,
    metrics: Vec<Metric>,
    tick: Option<Tick>,
    /// The queues that the VM registered are its own in every process that begins with the same state.
    number: VmNumber,
    tokens: u32,
    contexts: u32,
}

const PAGE: usize = 4096;

impl Vm {
    /// All that tells this VM from a new instance: its memory, and what the host keeps. Nothing while streams or calls
    /// are open.
    pub fn image(&self) -> Option<Image> {
        let host = self.store.data();
        if !(host.streams.is_empty() && host.calls.is_empty()) {
            return None;
        }
        let memory = host
            .memory
            .expect("the module has a memory")
            .data(&self.store);
        let used = memory
            .chunks(PAGE)
            .enumerate()
            .filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        let pages = used.map(|(n, page)| (n * PAGE, page.to_vec())).collect();
        Some(Image {
            size: memory.len(),
            pages,
            metrics: host.metrics.clone(),
            tick: host.tick,
            number: host.number,
            tokens: host.tokens,
            contexts: self.contexts,
        })
    }

    /// A VM as it was when the image was taken, in a process whose state was taken then or later.
    pub fn of(image: &Image, world: &World) -> Self {
        let mut vm = Self::instantiate(world, image.number);
        let memory = vm.host().memory.expect("the module has a memory");
        let missing =
            (image.size - memory.data_size(&vm.store)) as u64 / memory.page_size(&vm.store);
        memory
            .grow(&mut vm.store, missing)
            .expect("the memory can be as large again");
        let bytes = memory.data_mut(&mut vm.store);
        for (at, page) in &image.pages {
            bytes[*at..at + page.len()].copy_from_slice(page);
        }
        vm.contexts = image.contexts;
        let host = vm.host();
        host.metrics.clone_from(&image.metrics);
        host.tick = image.tick;
        host.tokens = image.tokens;
        vm
    }
}

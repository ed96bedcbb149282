//! A worker of the mock Envoy: one VM, which any number of exchanges may be in at once.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use super::calls::HttpCall;
use super::cost::Cost;
use super::exchange::Exchange;
use super::head::{Head, Reply};
use super::vm::Vm;
use super::world::World;

#[derive(Clone)]
pub struct Worker(Rc<RefCell<Vm>>);

impl Worker {
    pub fn new(vm: Rc<RefCell<Vm>>) -> Self {
        Self(vm)
    }

    /// To look at. What may put something into a queue goes through [`Self::act`].
    pub fn vm(&self) -> RefMut<'_, Vm> {
        self.0.borrow_mut()
    }

    /// Something happens in this VM, and then in those that it tells of something by a queue.
    pub fn act<T>(&self, event: impl FnOnce(&mut Vm) -> T) -> T {
        let done = event(&mut self.vm());
        self.world().notify();
        done
    }

    pub fn world(&self) -> World {
        self.vm().host().world.clone()
    }

    /// The VM dies with all its streams and calls: neither ticks nor notices of queues reach it any more. Its
    /// exchanges can still be looked at, and nothing else should be done with them.
    pub fn die(self) {
        self.world().dismiss(&self.0);
    }

    /// A client's request begins; nothing of it has been shown to the filter yet.
    pub fn request(&self, head: &Head) -> Exchange {
        Exchange::new(self.clone(), head)
    }

    /// The filter's own HTTP calls that wait for an answer, those of its root context included.
    pub fn calls(&self) -> Vec<HttpCall> {
        self.vm().host().calls.clone()
    }

    /// All HTTP calls that the filter has made so far.
    pub fn calls_made(&self) -> Vec<HttpCall> {
        self.vm().host().calls_made.clone()
    }

    /// A server answers a call.
    pub fn answer(&self, call: &HttpCall, answer: Reply) {
        self.act(|vm| vm.answer_call(call.token, Some(answer)));
    }

    /// A call comes to nothing: the connection was reset.
    pub fn reset(&self, call: &HttpCall) {
        self.act(|vm| vm.answer_call(call.token, None));
    }

    /// What this worker's callbacks have cost so far.
    pub fn cost(&self) -> Cost {
        self.vm().cost()
    }
}

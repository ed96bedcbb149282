//! A platform in memory, for tests: a store with the host's semantics, a clock and attributes that tests set.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use mcp_session_filter::platform::{Platform, PlatformError, Store, Stored, Written};
use mcp_session_filter::time::Millis;

type Act = Box<dyn FnOnce(&FakePlatform)>;

/// See the module. Cheap to share by reference between "workers".
#[derive(Default)]
pub struct FakePlatform {
    data: RefCell<BTreeMap<String, Stored>>,
    attributes: RefCell<BTreeMap<String, Vec<u8>>>,
    now: Cell<u64>,
    nonce: Cell<u64>,
    is_crowded: Cell<bool>,
    last_token: Cell<u32>,
    /// Calls of the store until one fails.
    fails_in: Cell<Option<u32>>,
    /// What another worker does before the next write.
    before_write: RefCell<Option<Act>>,
    /// What another worker does after so many more calls of the store.
    after_calls: RefCell<Option<(u32, Act)>>,
}

#[allow(dead_code, reason = "each test uses some of it")]
impl FakePlatform {
    /// Another one that is as this one is now.
    pub fn copy(&self) -> Self {
        Self {
            data: self.data.clone(),
            attributes: self.attributes.clone(),
            now: self.now.clone(),
            nonce: self.nonce.clone(),
            is_crowded: self.is_crowded.clone(),
            last_token: self.last_token.clone(),
            ..Self::default()
        }
    }

    /// Sets an attribute, its path joined by dots.
    pub fn set_attribute(&self, path: &str, value: &str) {
        self.attributes
            .borrow_mut()
            .insert(path.to_owned(), value.as_bytes().to_vec());
    }

    /// Moves the clock on.
    pub fn advance(&self, millis: u64) {
        self.now.set(self.now.get() + millis);
    }

    /// From now on no more requests may wait.
    pub fn be_crowded(&self) {
        self.is_crowded.set(true);
    }

    /// Has the store's next call but `calls` fail.
    pub fn fail_in(&self, calls: u32) {
        self.fails_in.set(Some(calls));
    }

    /// Whether a failure that was asked for is still to come.
    pub fn is_failure_pending(&self) -> bool {
        self.fails_in.get().is_some()
    }

    /// Has somebody else act just before the next write.
    pub fn before_next_write(&self, act: impl FnOnce(&FakePlatform) + 'static) {
        *self.before_write.borrow_mut() = Some(Box::new(act));
    }

    /// Has somebody else act once the store was called so often.
    pub fn after_calls(&self, calls: u32, act: impl FnOnce(&FakePlatform) + 'static) {
        *self.after_calls.borrow_mut() = Some((calls, Box::new(act)));
    }

    /// Whether somebody else is still to act.
    pub fn is_act_pending(&self) -> bool {
        self.after_calls.borrow().is_some()
    }

    /// All keys with their values.
    pub fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let data = self.data.borrow();
        data.iter()
            .map(|(key, stored)| (key.clone(), stored.value.clone()))
            .collect()
    }

    fn called(&self) {
        let mut after = self.after_calls.borrow_mut();
        match after.take() {
            Some((0, act)) => {
                drop(after);
                act(self);
            }
            Some((calls, act)) => *after = Some((calls - 1, act)),
            None => {}
        }
    }

    fn may_fail(&self, call: &'static str) -> Result<(), PlatformError> {
        match self.fails_in.get() {
            None => Ok(()),
            Some(0) => {
                self.fails_in.set(None);
                Err(PlatformError { call, status: 10 })
            }
            Some(calls) => {
                self.fails_in.set(Some(calls - 1));
                Ok(())
            }
        }
    }
}

impl Store for FakePlatform {
    fn read(&self, key: &str) -> Result<Option<Stored>, PlatformError> {
        self.called();
        self.may_fail("read")?;
        Ok(self.data.borrow().get(key).cloned())
    }

    fn write(&self, key: &str, value: &[u8], token: Option<u32>) -> Result<Written, PlatformError> {
        self.called();
        let act = self.before_write.borrow_mut().take();
        if let Some(act) = act {
            act(self);
        }
        self.may_fail("write")?;
        let mut data = self.data.borrow_mut();
        let there = data.get(key).map(|stored| stored.token);
        if token.is_some() && there.is_some() && token != there {
            return Ok(Written::Overtaken);
        }
        self.last_token.set(self.last_token.get() + 1);
        let stored = Stored {
            value: value.to_vec(),
            token: self.last_token.get(),
        };
        data.insert(key.to_owned(), stored);
        Ok(Written::Done)
    }
}

impl Platform for FakePlatform {
    fn now(&self) -> Millis {
        Millis(self.now.get())
    }

    fn nonce(&self) -> u64 {
        self.nonce.set(self.nonce.get() + 1);
        self.nonce.get()
    }

    fn may_wait(&self) -> bool {
        !self.is_crowded.get()
    }

    fn attribute(&self, path: &[&str]) -> Option<Vec<u8>> {
        let attribute = self.attributes.borrow().get(&path.join(".")).cloned();
        attribute.filter(|value| !value.is_empty())
    }
}

//! What happened last, told if the test fails.

use std::collections::VecDeque;

const NOTES: usize = 60;

pub struct Trace {
    scene: String,
    notes: VecDeque<String>,
}

impl Trace {
    pub fn new(scene: String) -> Self {
        Self {
            scene,
            notes: VecDeque::new(),
        }
    }

    pub fn note(&mut self, what: String) {
        self.notes.truncate(NOTES - 1);
        self.notes.push_front(what);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let notes: Vec<_> = self.notes.iter().rev().map(String::as_str).collect();
            eprintln!("{}, after:\n  {}", self.scene, notes.join("\n  "));
        }
    }
}

//! Envoy's shared queues: they have names, never go away, and each entry tells the VM that registered last.

use std::collections::VecDeque;

use super::status::{Answered, Status};

/// A VM of the process. An image of a VM keeps its number, and with it the queues that it registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmNumber(pub u32);

/// A VM is due to be told of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    pub vm: VmNumber,
    pub queue: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Queues {
    queues: Vec<Queue>,
    due: VecDeque<Notice>,
}

#[derive(Clone, Debug)]
struct Queue {
    name: Vec<u8>,
    owner: VmNumber,
    entries: VecDeque<Vec<u8>>,
}

impl Queues {
    /// The id of the queue of that name, which tells this VM from now on. What it holds already stays in it.
    pub fn register(&mut self, name: &[u8], owner: VmNumber) -> u32 {
        if let Ok(id) = self.resolve(name) {
            self.queues[id as usize - 1].owner = owner;
            return id;
        }
        self.queues.push(Queue {
            name: name.to_vec(),
            owner,
            entries: VecDeque::new(),
        });
        u32::try_from(self.queues.len()).expect("queues are few")
    }

    pub fn resolve(&self, name: &[u8]) -> Result<u32, Status> {
        let place = self.queues.iter().position(|queue| queue.name == name);
        let id = place.map(|place| u32::try_from(place + 1).expect("queues are few"));
        id.ok_or(Status::NOT_FOUND)
    }

    /// Whoever is the owner now is told later, once for each entry; who registers meanwhile is not.
    pub fn enqueue(&mut self, id: u32, entry: Vec<u8>) -> Answered {
        let queue = self.queue(id)?;
        queue.entries.push_back(entry);
        let vm = queue.owner;
        self.due.push_back(Notice { vm, queue: id });
        Ok(())
    }

    /// Any VM may take an entry out.
    pub fn dequeue(&mut self, id: u32) -> Result<Vec<u8>, Status> {
        self.queue(id)?.entries.pop_front().ok_or(Status::EMPTY)
    }

    pub fn next_notice(&mut self) -> Option<Notice> {
        self.due.pop_front()
    }

    /// The names of all queues, and how many entries each holds.
    pub fn lengths(&self) -> Vec<(String, usize)> {
        let length = |queue: &Queue| (queue.name.escape_ascii().to_string(), queue.entries.len());
        self.queues.iter().map(length).collect()
    }

    fn queue(&mut self, id: u32) -> Result<&mut Queue, Status> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        place
            .and_then(|place| self.queues.get_mut(place))
            .ok_or(Status::NOT_FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VmNumber = VmNumber(1);
    const B: VmNumber = VmNumber(2);

    #[test]
    fn a_queue_that_nobody_registered_is_not_found() {
        let mut queues = Queues::default();
        assert_eq!(queues.resolve(b"q"), Err(Status::NOT_FOUND));
        for id in [0, 1, u32::MAX] {
            assert_eq!(queues.enqueue(id, vec![1]), Err(Status::NOT_FOUND));
            assert_eq!(queues.dequeue(id), Err(Status::NOT_FOUND));
        }
        assert_eq!(queues.next_notice(), None);
    }

    #[test]
    fn entries_come_out_in_order_and_each_tells_the_owner_once() {
        let mut queues = Queues::default();
        let id = queues.register(b"q", A);
        assert_eq!(queues.resolve(b"q"), Ok(id));
        queues.enqueue(id, vec![1]).unwrap();
        queues.enqueue(id, vec![2]).unwrap();
        let notice = Notice { vm: A, queue: id };
        assert_eq!(queues.next_notice(), Some(notice));
        assert_eq!(queues.next_notice(), Some(notice));
        assert_eq!(queues.next_notice(), None);
        assert_eq!(queues.dequeue(id), Ok(vec![1]));
        assert_eq!(queues.dequeue(id), Ok(vec![2]));
        assert_eq!(queues.dequeue(id), Err(Status::EMPTY));
    }

    #[test]
    fn who_registers_later_gets_the_queue_with_all_that_is_in_it_but_not_the_notices_under_way() {
        let mut queues = Queues::default();
        let id = queues.register(b"q", A);
        queues.enqueue(id, vec![1]).unwrap();
        assert_eq!(queues.register(b"q", B), id);
        assert_ne!(queues.register(b"other", A), id);
        queues.enqueue(id, vec![2]).unwrap();
        let told = [queues.next_notice(), queues.next_notice()];
        assert_eq!(told.map(|notice| notice.unwrap().vm), [A, B]);
        assert_eq!(
            queues.lengths(),
            [("q".to_owned(), 2), ("other".to_owned(), 0)]
        );
    }
}

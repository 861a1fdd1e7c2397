//! Bounded queues between workers. A worker never blocks on a send: what does not fit waits in the outbox, the worker
//! takes no more source input until it is gone, and goes on draining its inboxes, so exchanges cannot deadlock.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::message::Epoch;
use crate::operator::exchange::{DistinctBlock, PartialBlock, TallyBlock};

/// Blocks that a queue holds.
const CAPACITY: usize = 16;

/// What travels between workers.
#[derive(Debug)]
pub enum Message {
    /// Partial results for their owner.
    Partial(PartialBlock),
    /// Values for their owner.
    Distinct(DistinctBlock),
    /// Counts of new values for their groups' owner.
    Tally(TallyBlock),
    /// Nothing of this epoch comes after.
    Barrier(Epoch),
}

/// Handles to wake workers that wait.
#[derive(Clone, Debug, Default)]
pub struct Wakers(Arc<Vec<OnceLock<Thread>>>);

impl Wakers {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self(Arc::new((0..workers).map(|_| OnceLock::new()).collect()))
    }

    /// Says that the calling thread is worker `index`.
    pub fn register(&self, index: usize) {
        if let Some(slot) = self.0.get(index) {
            let _ = slot.set(std::thread::current());
        }
    }

    /// Wakes worker `index`.
    pub fn wake(&self, index: usize) {
        if let Some(thread) = self.0.get(index).and_then(OnceLock::get) {
            thread.unpark();
        }
    }

    /// Wakes all workers.
    pub fn wake_all(&self) {
        (0..self.0.len()).for_each(|index| self.wake(index));
    }
}

/// One worker's sending side of one edge: a queue to each worker.
pub struct Outbox {
    queues: Vec<Sender<Message>>,
    waiting: Vec<VecDeque<Message>>,
    wakers: Wakers,
}

impl Outbox {
    /// Queues a message; it is sent now if its queue has room and nothing waits before it.
    pub fn send(&mut self, to: usize, message: Message) {
        self.waiting[to].push_back(message);
        self.pump_one(to);
    }

    /// Queues a barrier to every worker.
    pub fn send_barrier(&mut self, epoch: Epoch) {
        (0..self.queues.len()).for_each(|to| self.send(to, Message::Barrier(epoch)));
    }

    /// Sends what waits, as far as there is room. Whether anything was sent.
    pub fn pump(&mut self) -> bool {
        (0..self.queues.len()).fold(false, |moved, to| self.pump_one(to) | moved)
    }

    fn pump_one(&mut self, to: usize) -> bool {
        let mut moved = false;
        while let Some(message) = self.waiting[to].pop_front() {
            match self.queues[to].try_send(message) {
                Ok(()) => moved = true,
                Err(TrySendError::Full(message)) => {
                    self.waiting[to].push_front(message);
                    break;
                }
                // The receiver has stopped: the job is going down, and the coordinator knows why.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        if moved {
            self.wakers.wake(to);
        }
        moved
    }

    /// Whether nothing waits.
    pub fn is_clear(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// The queues of one edge between `workers` workers: for each its outbox and its inboxes, by sender.
pub fn edge(workers: usize, wakers: &Wakers) -> Vec<(Outbox, Vec<Receiver<Message>>)> {
    let mut senders: Vec<Vec<Sender<Message>>> = (0..workers).map(|_| Vec::new()).collect();
    let mut receivers: Vec<Vec<Receiver<Message>>> = (0..workers).map(|_| Vec::new()).collect();
    for sender in &mut senders {
        for receiver in &mut receivers {
            let (tx, rx) = bounded(CAPACITY);
            sender.push(tx);
            receiver.push(rx);
        }
    }
    let outbox = |queues: Vec<_>| {
        let waiting = queues.iter().map(|_| VecDeque::new()).collect();
        Outbox { queues, waiting, wakers: wakers.clone() }
    };
    senders.into_iter().map(outbox).zip(receivers).collect()
}

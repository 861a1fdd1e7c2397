//! Barriers: an inbox that delivers barrier N is not read again until all have delivered it.

use crossbeam_channel::{Receiver, TryRecvError};

use super::channel::Message;
use crate::error::{Error, Result};
use crate::message::Epoch;

/// The receiving side of one edge, or of several that end at one operator.
pub struct Aligner {
    inboxes: Vec<Receiver<Message>>,
    /// Per inbox: it has delivered the barrier that the others have not.
    at_barrier: Vec<bool>,
    epoch: Option<Epoch>,
    next: usize,
}

/// What comes next.
#[derive(Debug)]
pub enum Aligned {
    /// A message of the running epoch.
    Data(Message),
    /// All inboxes have delivered this barrier.
    Barrier(Epoch),
    /// Nothing now.
    Empty,
}

impl Aligner {
    /// Over these inboxes.
    pub fn new(inboxes: Vec<Receiver<Message>>) -> Self {
        let at_barrier = vec![false; inboxes.len()];
        Self { inboxes, at_barrier, epoch: None, next: 0 }
    }

    /// The next message, taking turns between the inboxes that are not at the barrier.
    pub fn poll(&mut self) -> Result<Aligned> {
        for _ in 0..self.inboxes.len() {
            let inbox = self.next;
            self.next = (self.next + 1) % self.inboxes.len();
            if self.at_barrier[inbox] {
                continue;
            }
            match self.inboxes[inbox].try_recv() {
                Ok(Message::Barrier(epoch)) => {
                    if let Some(barrier) = self.barrier(inbox, epoch)? {
                        return Ok(Aligned::Barrier(barrier));
                    }
                }
                Ok(message) => return Ok(Aligned::Data(message)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
        Ok(Aligned::Empty)
    }

    fn barrier(&mut self, inbox: usize, epoch: Epoch) -> Result<Option<Epoch>> {
        if *self.epoch.get_or_insert(epoch) != epoch {
            return Err(Error::internal(format!("barrier {epoch} overtook barrier {:?}", self.epoch)));
        }
        self.at_barrier[inbox] = true;
        if !self.at_barrier.iter().all(|at| *at) {
            crate::protocol::failpoint::hit("K2");
            return Ok(None);
        }
        self.at_barrier.fill(false);
        self.epoch = None;
        Ok(Some(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::{Wakers, edge};
    use super::*;
    use crate::operator::exchange::TallyBlock;

    fn data(call: usize) -> Message {
        Message::Tally(TallyBlock { call, ..TallyBlock::default() })
    }

    fn drain(aligner: &mut Aligner) -> String {
        let mut seen = String::new();
        loop {
            match aligner.poll().unwrap() {
                Aligned::Data(Message::Tally(block)) => seen.push_str(&block.call.to_string()),
                Aligned::Data(other) => panic!("{other:?}"),
                Aligned::Barrier(epoch) => seen.push_str(&format!("|{epoch}|")),
                Aligned::Empty => return seen,
            }
        }
    }

    #[test]
    fn what_comes_behind_a_barrier_waits_for_the_slowest() {
        let wakers = Wakers::new(2);
        let mut edges = edge(2, &wakers);
        let (mut slow, _) = edges.remove(1);
        let (mut fast, inboxes) = edges.remove(0);
        let mut aligner = Aligner::new(inboxes);
        fast.send(0, data(1));
        fast.send_barrier(Epoch(7));
        fast.send(0, data(2));
        slow.send(0, data(3));
        assert_eq!(drain(&mut aligner), "13");
        slow.send(0, data(4));
        slow.send_barrier(Epoch(7));
        slow.send(0, data(5));
        let seen = drain(&mut aligner);
        assert!(seen == "4|7|25" || seen == "4|7|52", "{seen}");
    }

    #[test]
    fn a_full_queue_keeps_messages_in_order_until_there_is_room() {
        let wakers = Wakers::new(1);
        let (mut outbox, inboxes) = edge(1, &wakers).remove(0);
        (0..40).for_each(|i| outbox.send(0, data(i % 10)));
        assert!(!outbox.is_clear());
        let mut aligner = Aligner::new(inboxes);
        let mut seen = drain(&mut aligner);
        while outbox.pump() {
            seen.push_str(&drain(&mut aligner));
        }
        assert_eq!((seen, outbox.is_clear()), ("0123456789".repeat(4), true));
    }
}

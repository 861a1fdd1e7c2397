//! The distinct values that one worker owns, by the slice in which their groups expire.

use super::Expiry;
use super::slices::{Part, Place, Slices};
use super::split::Split;
use crate::error::Result;
use crate::operator::distinct::{DIRTY_CONTAINERS, DistinctOwner};
use crate::operator::exchange::{DistinctBlock, TallyBlock};
use crate::operator::lookup::{Held, Room};

/// As [`DistinctOwner`], for groups that expire as well: then a value is known in each slice by itself.
pub struct Values {
    call: usize,
    slices: Slices<DistinctOwner>,
    /// Bytes that came since all was worked on, and when that is enough.
    waiting: usize,
    limit: usize,
}

impl Part for DistinctOwner {
    fn held(&self) -> Held {
        DistinctOwner::held(self)
    }
}

impl Values {
    /// The values of aggregate `call` of a pipeline.
    pub fn new(pipeline: usize, call: usize, expiry: Option<Expiry>, place: Place, room: Room) -> Self {
        let (store, family) = (place.store.clone(), place.family.clone());
        let make = Box::new(move |namespace, fresh| {
            Ok(DistinctOwner::new(pipeline, call, family.clone(), store.clone(), fresh, room).within(namespace))
        });
        Self { call, slices: Slices::new(expiry, place, make), waiting: 0, limit: room.waiting }
    }

    /// Which aggregate of the pipeline.
    pub fn call(&self) -> usize {
        self.call
    }

    /// Takes in a block: each value that is new in its group is counted in the group's tally, at once or when the tallies
    /// are sent.
    pub fn process(&mut self, block: DistinctBlock, may_write: bool) -> Result<()> {
        let Some(expiry) = self.slices.expiry() else {
            return self.slices.take(0, |owner, others| owner.process(block, may_write, others));
        };
        let (size, slices) = (block.size(), expiry.slices(block.keys())?);
        for (slice, part) in block.parts(&slices) {
            self.slices.take(slice, |owner, others| owner.process(part, may_write, others))?;
        }
        self.waiting += size;
        if self.waiting >= self.limit { self.settle(may_write) } else { Ok(()) }
    }

    /// Works on what waits, as [`DistinctOwner::settle`].
    pub fn settle(&mut self, may_write: bool) -> Result<()> {
        self.waiting = 0;
        self.slices.work_touched(&mut |owner, others| owner.settle(may_write, others))
    }

    /// Sends the tallies of what was new since the last call: `emit(worker, block)`. Nothing waits any more then.
    pub fn flush_tallies(&mut self, workers: usize, emit: &mut dyn FnMut(usize, TallyBlock)) -> Result<()> {
        self.waiting = 0;
        self.slices.work_touched(&mut |owner, others| owner.flush_tallies(workers, others, emit))
    }

    /// The barrier: tallies were sent, and the rest goes to the store.
    pub fn flush_state(&mut self) -> Result<()> {
        self.slices.work_touched(&mut |owner, _| owner.flush_state())?;
        self.slices.rest();
        Ok(())
    }

    /// Leaves less for the next barrier, as [`DistinctOwner::relieve`].
    pub fn relieve(&mut self, evict: bool, workers: usize, emit: &mut dyn FnMut(usize, TallyBlock)) -> Result<()> {
        if evict {
            self.slices.close_untouched();
        }
        self.slices.work_touched(&mut |owner, others| owner.relieve(evict, workers, others, emit))
    }

    /// Drops what was seen in groups that have expired at this `closed`. A barrier must have passed, after which nothing came
    /// for them.
    pub fn expire(&mut self, closed_ms: i64) -> Result<()> {
        self.slices.expire(closed_ms)
    }

    /// What [`Self::relieve`] would write: new values, and containers if they are many.
    pub fn dirty(&self) -> usize {
        let held = self.held();
        held.dirty + if held.dirty_containers > DIRTY_CONTAINERS { held.dirty_containers } else { 0 }
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.held().memory
    }

    pub(super) fn held(&self) -> Held {
        self.slices.held()
    }
}

//! The groups that one worker owns, by the slice in which they expire.

use super::Expiry;
use super::slices::{Part, Place, Slices};
use super::split::Split;
use crate::error::Result;
use crate::operator::exchange::{PartialBlock, TallyBlock};
use crate::operator::lookup::Held;
use crate::operator::merge::{ChangedGroups, FEW, GroupOwner};
use crate::plan::lower::AggregateSpec;

/// As [`GroupOwner`], for groups that expire as well.
pub struct Groups {
    slices: Slices<GroupOwner>,
    /// Bytes that came since all was worked on, and when that is enough.
    waiting: usize,
    limit: usize,
    /// Slices with changed groups that were not taken yet; perhaps more.
    changed: Vec<i64>,
}

impl Part for GroupOwner {
    fn held(&self) -> Held {
        Held { memory: self.memory(), dirty: self.dirty(), changed: self.changed(), ..Held::default() }
    }
}

impl Groups {
    /// The groups of a grouping. `before_images`: it also hands out what changed groups were at the last barrier. Blocks of
    /// about `waiting` bytes are held back before they are worked on, if the store has to be read for them.
    pub fn new(spec: &AggregateSpec, expiry: Option<Expiry>, place: Place, waiting: usize, before_images: bool) -> Self {
        let (spec, store, family) = (spec.clone(), place.store.clone(), place.family.clone());
        let make = Box::new(move |namespace, fresh| {
            let owner = GroupOwner::new(&spec, family.clone(), store.clone(), fresh, waiting)?.within(namespace);
            Ok(if before_images { owner.with_before_images() } else { owner })
        });
        Self { slices: Slices::new(expiry, place, make), waiting: 0, limit: waiting, changed: Vec::new() }
    }

    /// Adds partial results, or takes them back: at once, or when what changed is taken.
    pub fn merge(&mut self, block: PartialBlock) -> Result<()> {
        let size = block.size();
        self.take(block, size, GroupOwner::merge)
    }

    /// Adds to distinct counts, as [`Self::merge`].
    pub fn tally(&mut self, block: TallyBlock) -> Result<()> {
        let size = block.size();
        self.take(block, size, GroupOwner::tally)
    }

    fn take<B: Split>(&mut self, block: B, size: usize, take: fn(&mut GroupOwner, B) -> Result<()>) -> Result<()> {
        let Some(expiry) = self.slices.expiry() else { return self.take_one(0, |owner, _| take(owner, block)) };
        let slices = expiry.slices(block.keys())?;
        for (slice, part) in block.parts(&slices) {
            self.take_one(slice, |owner, _| take(owner, part))?;
        }
        self.waiting += size;
        if self.waiting >= self.limit { self.settle() } else { Ok(()) }
    }

    fn take_one(&mut self, slice: i64, take: impl FnOnce(&mut GroupOwner, Held) -> Result<()>) -> Result<()> {
        if self.changed.last() != Some(&slice) {
            self.changed.push(slice);
        }
        self.slices.take(slice, take)
    }

    /// Works on what waits.
    pub fn settle(&mut self) -> Result<()> {
        self.waiting = 0;
        self.changed.sort_unstable();
        self.changed.dedup();
        self.slices.work_touched(&mut |owner, _| owner.settle())
    }

    /// Groups that changed since the barrier before and were not taken yet, at most so many, by key in each slice. `None` if
    /// there are none.
    pub fn take_changed(&mut self, most: usize) -> Result<Option<ChangedGroups>> {
        while let Some(slice) = self.changed.last().copied() {
            if let Some(changed) = self.slices.work(slice, |owner, _| owner.take_changed(most))?.flatten() {
                return Ok(Some(changed));
            }
            self.changed.pop();
        }
        Ok(None)
    }

    /// The barrier: what changed was taken, and goes to the store.
    pub fn flush_state(&mut self) -> Result<()> {
        self.slices.work_touched(&mut |owner, _| owner.flush_state())?;
        self.waiting = 0;
        self.slices.rest();
        Ok(())
    }

    /// Writes dirty groups ahead of the barrier, with `flush`; with `evict`, empties their cache as well where that frees
    /// much.
    pub fn relieve(&mut self, evict: bool, flush: bool) -> Result<()> {
        if evict {
            self.slices.close_untouched();
        }
        // So few of all slices are kept over an eviction whatever share of the cache they are.
        let few = self.changed() < FEW;
        self.slices.work_touched(&mut |owner, _| {
            let evict = evict && (few || owner.is_evictable());
            if evict || flush {
                owner.flush_state()?;
            }
            if evict { owner.evict() } else { Ok(()) }
        })
    }

    /// Drops the groups that have expired at this `closed`. A barrier must have passed, after which nothing came for them.
    pub fn expire(&mut self, closed_ms: i64) -> Result<()> {
        self.slices.expire(closed_ms)
    }

    /// Groups that the next flush writes.
    pub fn dirty(&self) -> usize {
        self.slices.held().dirty
    }

    /// Groups that changed in this epoch: they stay in memory until the barrier.
    pub fn changed(&self) -> usize {
        self.slices.held().changed
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.slices.held().memory
    }
}

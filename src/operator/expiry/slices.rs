//! One operator for each slice of time, and what they hold in all. Only those that something came to are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Expiry;
use crate::error::{Error, Result};
use crate::message::KeyGroup;
use crate::operator::lookup::Held;
use crate::state::{Namespace, StateStore, state_key};

/// What an operator costs before it holds anything, about.
const EMPTY: usize = 1024;

/// An operator of one slice.
pub(super) trait Part: Sized {
    fn held(&self) -> Held;
}

/// Where the state of the slices lies.
#[derive(Clone)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// The family of the operator.
    pub family: String,
    /// The key groups of this worker.
    pub key_groups: Range<u16>,
    /// Whether the store held nothing of it when it was opened.
    pub fresh: bool,
}

/// Makes the operator of a slice: its namespace, and whether the store holds nothing of it.
type Make<P> = Box<dyn Fn(Namespace, bool) -> Result<P> + Send>;

/// The operators of one worker, by slice. Where groups do not expire there is one, of slice 0, in the empty namespace.
pub(super) struct Slices<P> {
    expiry: Option<Expiry>,
    place: Place,
    make: Make<P>,
    open: BTreeMap<i64, Open<P>>,
    /// Slices that the store may hold something of by now.
    begun: BTreeSet<i64>,
    /// Those that something came to since the last barrier.
    touched: Vec<i64>,
    held: Held,
    last_expired: Option<i64>,
}

struct Open<P> {
    part: P,
    held: Held,
    touched: bool,
}

impl<P: Part> Slices<P> {
    pub(super) fn new(expiry: Option<Expiry>, place: Place, make: Make<P>) -> Self {
        Self {
            expiry,
            place,
            make,
            open: BTreeMap::new(),
            begun: BTreeSet::new(),
            touched: Vec::new(),
            held: Held::default(),
            last_expired: None,
        }
    }

    pub(super) fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Takes something in at a slice.
    ///
    /// # Errors
    /// An internal one if the slice is over: its groups would begin again from nothing, and overwrite what is final.
    pub(super) fn take<R>(&mut self, slice: i64, take: impl FnOnce(&mut P, Held) -> Result<R>) -> Result<R> {
        if self.last_expired.is_some_and(|last| slice <= last) {
            return Err(Error::internal(format!("a record of a group of {} that has expired", self.place.family)));
        }
        if !self.open.contains_key(&slice) {
            let namespace = if self.expiry.is_some() { Namespace::Slice(slice) } else { Namespace::Empty };
            let part = (self.make)(namespace, self.place.fresh && self.begun.insert(slice))?;
            self.open.insert(slice, Open { part, held: Held::default(), touched: false });
        }
        if let Some(open) = self.open.get_mut(&slice).filter(|open| !open.touched) {
            open.touched = true;
            self.touched.push(slice);
        }
        self.work(slice, take)?.ok_or_else(|| Error::internal("a slice that was opened is not open"))
    }

    /// Works on a slice, if it is open, with what the others hold: all share one room.
    pub(super) fn work<R>(&mut self, slice: i64, work: impl FnOnce(&mut P, Held) -> Result<R>) -> Result<Option<R>> {
        let Some(open) = self.open.get_mut(&slice) else { return Ok(None) };
        let done = work(&mut open.part, self.held.less(open.held))?;
        let part = open.part.held();
        let now = Held { memory: part.memory + EMPTY, ..part };
        let before = std::mem::replace(&mut open.held, now);
        self.held = self.held.less(before).plus(now);
        Ok(Some(done))
    }

    /// Works on those that something came to since the last barrier.
    pub(super) fn work_touched(&mut self, work: &mut dyn FnMut(&mut P, Held) -> Result<()>) -> Result<()> {
        for i in 0..self.touched.len() {
            self.work(self.touched[i], &mut *work)?;
        }
        Ok(())
    }

    /// Behind a barrier nothing has come yet. Everything must be in the store, and handed out. The one operator of groups that
    /// do not expire is always looked at.
    pub(super) fn rest(&mut self) {
        if self.expiry.is_none() {
            return;
        }
        for slice in self.touched.drain(..) {
            if let Some(open) = self.open.get_mut(&slice) {
                open.touched = false;
            }
        }
    }

    /// Closes those that nothing came to since the last barrier: all of them is in the store.
    pub(super) fn close_untouched(&mut self) {
        let held = &mut self.held;
        self.open.retain(|_, open| {
            if !open.touched {
                *held = held.less(open.held);
            }
            open.touched
        });
    }

    /// Drops what has expired at this `closed`, here and in the store. A barrier must have passed, after which nothing came
    /// for it.
    pub(super) fn expire(&mut self, closed_ms: i64) -> Result<()> {
        let Some(last) = self.expiry.as_ref().map(|expiry| expiry.last_expired(closed_ms)) else { return Ok(()) };
        let Some(next) = last.checked_add(1).filter(|_| self.last_expired.is_none_or(|before| before < last)) else {
            return Ok(());
        };
        let kept = self.open.split_off(&next);
        for (_, open) in std::mem::replace(&mut self.open, kept) {
            if open.touched {
                return Err(Error::internal(format!("a group of {} has expired and still changes", self.place.family)));
            }
            self.held = self.held.less(open.held);
        }
        let begun = self.begun.split_off(&next);
        let stored = !std::mem::replace(&mut self.begun, begun).is_empty() || !self.place.fresh;
        if stored {
            let first = self.last_expired.map_or(i64::MIN, |before| before + 1);
            let bound = |group, slice| state_key(KeyGroup(group), Namespace::Slice(slice));
            let ranges: Vec<_> = self.place.key_groups.clone().map(|group| (bound(group, first), bound(group, next))).collect();
            self.place.store.delete_ranges(&self.place.family, &ranges)?;
        }
        self.last_expired = Some(last);
        Ok(())
    }
}

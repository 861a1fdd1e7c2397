//! Who stands in the doors of a life, and does what the script says.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kappa::error::{Error, ErrorKind, Result};
use kappa::protocol::door::{self, Act};

use super::script::{Fault, Kind, Spot, What};

/// The code of errors that pass.
pub const FAULT: &str = "simulated";
/// The code of every act of a life that has ended.
pub const DEAD: &str = "dead";

/// The keeper of one life.
pub struct Keeper {
    state: Mutex<State>,
    thawed: Condvar,
    /// What another tool does to the table.
    rival: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    counts: BTreeMap<Kind, u64>,
    met: Vec<Fault>,
    dead: bool,
    frozen: bool,
    /// It may not freeze again.
    was_frozen: bool,
}

impl Keeper {
    pub fn new(faults: &[Fault], rival: Box<dyn Fn() + Send + Sync>) -> Self {
        let state = State { faults: faults.to_vec(), ..State::default() };
        Self { state: Mutex::new(state), thawed: Condvar::new(), rival }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the life has ended.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn is_frozen(&self) -> bool {
        self.state().frozen
    }

    /// Lets the threads go on, without further faults.
    pub fn thaw(&self) {
        let mut state = self.state();
        state.faults.clear();
        (state.frozen, state.was_frozen) = (false, true);
        self.thawed.notify_all();
    }

    /// Lets the threads go on, up to the next act of a kind: there the life ends.
    pub fn thaw_until(&self, kind: Kind) {
        let mut state = self.state();
        let next = state.counts.get(&kind).copied().unwrap_or_default() + 1;
        state.faults = vec![Fault { spot: Spot::Act(kind, next), what: What::Die }];
        (state.frozen, state.was_frozen) = (false, true);
        self.thawed.notify_all();
    }

    /// The faults that were met, in order.
    pub fn met(&self) -> Vec<Fault> {
        self.state().met.clone()
    }

    /// Before an act; its number.
    pub fn enter(&self, kind: Kind) -> Result<u64> {
        self.alive()?;
        let mut state = self.state();
        let count = state.counts.entry(kind).or_default();
        *count += 1;
        let number = *count;
        let here = |fault: &Fault| fault.spot == Spot::Act(kind, number) && !fault.what.is_after();
        let fault = state.faults.iter().copied().find(here);
        drop(state);
        fault.map_or(Ok(()), |fault| self.meet(fault))?;
        self.alive()?;
        Ok(number)
    }

    /// After an act.
    pub fn leave(&self, kind: Kind, number: u64) -> Result<()> {
        let here = |fault: &Fault| fault.spot == Spot::Act(kind, number) && fault.what.is_after();
        let fault = self.state().faults.iter().copied().find(here);
        fault.map_or(Ok(()), |fault| self.meet(fault))?;
        self.alive()
    }

    /// Records of a partition up to an offset were fetched.
    pub fn fetched(&self, partition: i32, next: i64) -> Result<()> {
        self.alive()?;
        let mut state = self.state();
        let here = |fault: &Fault| matches!(fault.spot, Spot::Record(of, offset) if of == partition && offset < next);
        let fault = state.faults.iter().position(here).map(|at| state.faults.remove(at));
        drop(state);
        fault.map_or(Ok(()), |fault| self.meet(fault))?;
        self.alive()
    }

    /// An error for a life that has ended; one that is frozen waits here.
    pub fn alive(&self) -> Result<()> {
        let mut state = self.state();
        while state.frozen {
            state = self.thawed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.dead { Err(Error::refused(DEAD, "this life has ended")) } else { Ok(()) }
    }

    fn meet(&self, fault: Fault) -> Result<()> {
        self.state().met.push(fault);
        match fault.what {
            What::Slow(ms) => std::thread::sleep(Duration::from_millis(ms)),
            What::Fail => return Err(Error::new(ErrorKind::Unavailable, FAULT, "not done")),
            What::LoseReply => return Err(Error::new(ErrorKind::Unavailable, FAULT, "no reply")),
            What::Rival => (self.rival)(),
            What::Die | What::DieAfter => self.state().dead = true,
            What::Freeze | What::FreezeAfter => {
                let mut state = self.state();
                state.frozen = !state.was_frozen;
            }
        }
        Ok(())
    }
}

impl What {
    /// Whether it is for the reply.
    fn is_after(self) -> bool {
        matches!(self, Self::LoseReply | Self::DieAfter | Self::FreezeAfter)
    }
}

impl door::Keeper for Keeper {
    fn enter(&self, act: Act) -> Result<u64> {
        Keeper::enter(self, Kind::Engine(act))
    }

    fn leave(&self, act: Act, number: u64) -> Result<()> {
        Keeper::leave(self, Kind::Engine(act), number)
    }
}

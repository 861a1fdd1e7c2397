//! Doors: where the engine touches what outlives it. The simulation (`src/sim/`) stands in them; for everybody else they are
//! open. None is on the way of a record: each act happens at a start, at a checkpoint or at a commit.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;

/// What goes through a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// The lock on a version is taken.
    Lock,
    /// Manifests are listed or read.
    Look,
    /// A manifest is published, if there is none of its number.
    Publish,
    /// A manifest that is needed no more is removed.
    Forget,
    /// What earlier owners left in the version's directory is removed.
    Clear,
    /// The state's checkpoint is made.
    State,
    /// A worker closes the files of an epoch's rows.
    Stage,
    /// The catalog is asked.
    Find,
    /// A table is made.
    Create,
    /// A version is claimed in the catalog.
    Claim,
    /// Tables are moved, by compare-and-swap.
    Swap,
}

/// Who stands in a door.
pub trait Keeper: Send + Sync {
    /// Before something is done; gives it a number. An error: it is not done.
    ///
    /// # Errors
    /// Whatever the simulation wants to see handled.
    fn enter(&self, act: Act) -> Result<u64>;

    /// After the act of that number was done. An error: who did it does not hear so.
    ///
    /// # Errors
    /// Whatever the simulation wants to see handled.
    fn leave(&self, act: Act, number: u64) -> Result<()>;
}

/// A door: open, unless somebody stands in it.
#[derive(Clone, Default)]
pub struct Door(Option<Arc<dyn Keeper>>);

impl Door {
    /// A door that is kept.
    pub fn kept_by(keeper: Arc<dyn Keeper>) -> Self {
        Self(Some(keeper))
    }

    /// Does something, unless it is kept from it; its result, unless that is kept from whoever asked.
    ///
    /// # Errors
    /// Those of `act`, and those of the keeper.
    pub fn pass<T>(&self, act: Act, does: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(keeper) = &self.0 else { return does() };
        let number = keeper.enter(act)?;
        let done = does()?;
        keeper.leave(act, number)?;
        Ok(done)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "kept" } else { "open" })
    }
}

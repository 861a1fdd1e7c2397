//! How operators read state that is not in memory: many keys at a time, in the order in which the store keeps them.
//!
//! A store that is larger than memory is read by blocks of many keys each. Keys that come in any order read a block for
//! each; enough keys in order read each block once. So what comes waits until there is enough of it.

use crate::error::Result;
use crate::state::StateStore;

/// Keys that are read at a time.
const CHUNK: usize = 4096;

/// What has come and was not worked on yet.
pub struct Waiting<B> {
    blocks: Vec<B>,
    bytes: usize,
    limit: usize,
}

impl<B> Waiting<B> {
    /// Nothing yet; `limit` bytes are enough.
    pub fn new(limit: usize) -> Self {
        Self { blocks: Vec::new(), bytes: 0, limit }
    }

    /// Adds a block of so many bytes. Whether there is enough now.
    pub fn push(&mut self, block: B, bytes: usize) -> bool {
        self.blocks.push(block);
        self.bytes += bytes;
        self.bytes >= self.limit
    }

    /// All of it, in the order in which it came.
    pub fn take(&mut self) -> Vec<B> {
        self.bytes = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

/// Reads what is wanted, which must be in the order of its keys: `each(wanted, value)`, in that order.
pub fn read_in_order<T>(
    store: &dyn StateStore,
    family: &str,
    wanted: &[T],
    key: impl Fn(&T) -> Vec<u8>,
    mut each: impl FnMut(&T, Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    for chunk in wanted.chunks(CHUNK) {
        let keys: Vec<Vec<u8>> = chunk.iter().map(&key).collect();
        for (wanted, value) in chunk.iter().zip(store.multi_get(family, &keys)?) {
            each(wanted, value.as_deref())?;
        }
    }
    Ok(())
}

//! The one async door.

use std::future::Future;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Owns the one small async runtime of the process' table work. Everything else in kappa is synchronous: `run` is the
/// only place that blocks on a future, and it must not be called from inside one.
#[derive(Clone)]
pub struct Io {
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Io {
    /// Starts the runtime: one thread, since catalogs and local files need no more.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kappa-io")
            .enable_all()
            .build()
            .map_err(|error| Error::internal(format!("start the async runtime: {error}")).source(error))?;
        Ok(Self { runtime: Arc::new(runtime) })
    }

    /// Runs a future to its end on the calling thread.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_runs_to_its_end() {
        assert_eq!(Io::new().unwrap().run(async { 41 + 1 }), 42);
    }
}

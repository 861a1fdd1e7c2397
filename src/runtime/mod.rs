//! Workers: one synchronous loop each, bounded queues between them, barriers through all of it.

pub mod align;
pub mod channel;
pub mod decode;
pub mod partition;
pub mod pipeline;
pub mod rate_limit;
pub mod task;

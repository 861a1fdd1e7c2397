//! Workers: one synchronous loop each, bounded queues between them, barriers through all of it.

pub mod align;
pub mod channel;
pub mod decode;
mod grouped;
pub mod partition;
mod pause;
pub mod pipeline;
pub mod rate_limit;
mod regroup;
mod staging;
mod table_end;
pub mod task;

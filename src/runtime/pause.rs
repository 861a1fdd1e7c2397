//! Partitions of a worker that stop for a while: where they are, or at a place that they come to.

use super::partition::PartitionTask;
use crate::protocol::checkpoint::PausePlace;

/// Whether they do.
#[derive(Debug, Default)]
pub(super) struct Pause {
    on: bool,
    /// Of a place that they come to: whether it was told that they are there.
    told: bool,
}

impl Pause {
    /// From now on.
    pub(super) fn begin(&mut self, place: Option<&PausePlace>, partitions: &mut [PartitionTask]) {
        for task in partitions {
            task.pause(place.and_then(|place| place.get(&(task.source, task.partition)).copied()));
        }
        *self = Self { on: true, told: place.is_none() };
    }

    /// No more.
    pub(super) fn end(&mut self, partitions: &mut [PartitionTask]) {
        partitions.iter_mut().for_each(PartitionTask::resume);
        *self = Self::default();
    }

    /// A partition that was found meanwhile stops with the others.
    pub(super) fn found(&self, task: PartitionTask) -> PartitionTask {
        let mut task = task;
        if self.on {
            task.pause(None);
        }
        task
    }

    /// Whether all have just come to the place.
    pub(super) fn is_reached(&mut self, partitions: &[PartitionTask]) -> bool {
        let waits = self.on && !self.told;
        self.told |= waits && partitions.iter().all(|task| task.at_pause() || task.at_end());
        waits && self.told
    }
}

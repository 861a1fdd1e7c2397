//! The partitions of a run as others see them: how far each is, where its log begins and ends now, and which are new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use super::prepare::Prepared;
use crate::checkpoint::manifest::{Manifest, Mode};
use crate::error::{Error, Result};
use crate::message::Partition;
use crate::protocol::progress::PartitionProgress;
use crate::source::{LogSource, PartitionExtent};

/// So little of a partition's log may be left behind the position, while retention moves, before it is worth a warning.
const CLOSE: f64 = 0.2;

/// A partition that is being read.
pub struct Watched {
    /// Which source.
    pub source: usize,
    /// Which partition.
    pub partition: Partition,
    /// Where reading stops.
    pub end: Option<i64>,
    /// The end of the log when the run began.
    pub head: i64,
    /// The start of the log when the run began.
    pub log_start: i64,
    /// Where this run began, and how many records had been read then.
    pub began: (i64, u64),
    /// How far it is.
    pub progress: Arc<PartitionProgress>,
}

/// All of them; there may be more of them as time goes by.
#[derive(Default)]
pub struct WatchList {
    partitions: Mutex<Vec<Arc<Watched>>>,
    /// Whether partitions that are found are read: a bounded run reads those that there were at its start.
    grows: AtomicBool,
}

impl WatchList {
    /// The partitions of a manifest.
    pub fn new(prepared: &Prepared, manifest: &Manifest) -> Result<Self> {
        let mut partitions = Vec::new();
        for (source, (state, log)) in manifest.sources.iter().zip(&prepared.sources).enumerate() {
            let extents = log.partitions()?;
            for (partition, now) in &state.partitions {
                let extent = extents.iter().find(|extent| extent.partition.0 == *partition);
                partitions.push(Arc::new(Watched {
                    source,
                    partition: Partition(*partition),
                    end: now.end.map(|end| end.0),
                    head: extent.map_or(now.next.0, |extent| extent.end.0),
                    log_start: extent.map_or(0, |extent| extent.start.0),
                    began: (now.next.0, now.counts.read),
                    progress: Arc::default(),
                }));
            }
        }
        Ok(Self { partitions: Mutex::new(partitions), grows: AtomicBool::new(manifest.mode == Mode::Live) })
    }

    /// Those there are now.
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on partitions that are found are read.
    pub fn unbound(&self) {
        self.grows.store(true, SeqCst);
    }

    /// Adds partitions that were not there, if they are to be read, and gives them.
    pub fn grow(&self, extents: &Extents) -> Vec<Arc<Watched>> {
        if !self.grows.load(SeqCst) {
            return Vec::new();
        }
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<_> = partitions.iter().map(|watched| (watched.source, watched.partition)).collect();
        let new = |(&(source, partition), extent): (&(usize, Partition), &PartitionExtent)| {
            let progress = Arc::new(PartitionProgress::default());
            progress.next.store(extent.start.0, Relaxed);
            let (head, log_start, began) = (extent.end.0, extent.start.0, (extent.start.0, 0));
            Arc::new(Watched { source, partition, end: None, head, log_start, began, progress })
        };
        let found: Vec<_> = extents.found.iter().filter(|(key, _)| !known.contains(key)).map(new).collect();
        partitions.extend(found.iter().cloned());
        found
    }

    /// Records read since the run began.
    pub fn events_read(&self) -> u64 {
        self.all().iter().map(|watched| watched.progress.read.load(Relaxed).saturating_sub(watched.began.1)).sum()
    }
}

/// Where the logs begin and end now; of logs that cannot be asked now there is nothing but the reason.
#[derive(Debug, Default)]
pub struct Extents {
    found: BTreeMap<(usize, Partition), PartitionExtent>,
    /// By source, why it gives no answer.
    pub away: BTreeMap<usize, Error>,
}

impl Extents {
    /// Asks the sources.
    pub fn ask(sources: &[Arc<dyn LogSource>]) -> Self {
        let mut extents = Self::default();
        for (source, log) in sources.iter().enumerate() {
            match log.partitions() {
                Ok(found) => extents.found.extend(found.into_iter().map(|extent| ((source, extent.partition), extent))),
                Err(error) => drop(extents.away.insert(source, error)),
            }
        }
        extents
    }

    /// The extent of a partition.
    pub fn of(&self, watched: &Watched) -> Option<&PartitionExtent> {
        self.found.get(&(watched.source, watched.partition))
    }
}

/// How close retention has come to a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetentionClock {
    /// Records between the start of the log and the position.
    pub records: i64,
    /// The share of the partition's records that this is.
    pub share: f64,
}

impl RetentionClock {
    /// Of a position in a log whose start has moved since the run began; where it stands still there is nothing to fear.
    pub fn of(extent: &PartitionExtent, start_then: i64, next: i64) -> Option<Self> {
        let (start, end) = (extent.start.0, extent.end.0);
        (start > start_then && end > start && next < end).then(|| {
            let records = next - start;
            Self { records, share: records as f64 / (end - start) as f64 }
        })
    }

    /// Whether it is worth a warning.
    pub fn is_close(&self) -> bool {
        self.share < CLOSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Offset;

    fn extent(start: i64, end: i64) -> PartitionExtent {
        PartitionExtent { partition: Partition(0), start: Offset(start), end: Offset(end), bytes: 0 }
    }

    #[test]
    fn the_clock_runs_while_retention_does() {
        assert_eq!(RetentionClock::of(&extent(100, 1100), 100, 100), None);
        let clock = RetentionClock::of(&extent(150, 1150), 100, 250).unwrap();
        assert_eq!((clock.records, clock.is_close()), (100, true));
        assert!(!RetentionClock::of(&extent(150, 1150), 100, 350).unwrap().is_close());
        // At the end there is nothing that could be lost.
        assert_eq!(RetentionClock::of(&extent(150, 1150), 100, 1150), None);
    }

    #[test]
    fn partitions_are_found_once_and_only_by_a_run_without_end() {
        let list = WatchList::default();
        let extents = |partitions: i32| {
            let one =
                |partition| ((0, Partition(partition)), PartitionExtent { partition: Partition(partition), ..extent(3, 9) });
            Extents { found: (0..partitions).map(one).collect(), ..Extents::default() }
        };
        assert!(list.grow(&extents(1)).is_empty());
        list.unbound();
        assert_eq!(list.grow(&extents(2)).len(), 2);
        let found = list.grow(&extents(3));
        assert_eq!(found.iter().map(|watched| (watched.partition.0, watched.began.0)).collect::<Vec<_>>(), [(2, 3)]);
        assert_eq!(list.all().len(), 3);
    }
}

//! Rows of groups on their way to the writer: a thread of its own encodes them and waits for the disk, so that a barrier does not hold
//! up the records behind it. The worker acknowledges the barrier once its files are durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::sink::{Change, StagedFile, StagingWriter};

/// What a barrier hands over: changes, and at last that this was all.
enum Work {
    Write(Change),
    Prepare(Epoch),
}

/// What both sides know.
#[derive(Default)]
struct Shared {
    /// Bytes of changes that are not written yet.
    bytes: AtomicUsize,
    /// Nobody waits for files any more.
    is_over: AtomicBool,
}

/// A writer in a thread of its own, for one epoch at a time.
pub(super) struct Stager {
    is_away: bool,
    shared: Arc<Shared>,
    work: Option<Sender<Work>>,
    staged: Receiver<Result<Vec<StagedFile>>>,
    thread: Option<JoinHandle<()>>,
}

impl Stager {
    /// Around a writer. `wake` wakes who waits for its files.
    pub(super) fn new(writer: Box<dyn StagingWriter>, wake: impl Fn() + Send + 'static) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (work, from_worker) = unbounded();
        let (done, staged) = bounded(1);
        let mut thread = Thread { writer, shared: shared.clone(), failed: None };
        let run = move || {
            for work in from_worker {
                if thread.shared.is_over.load(SeqCst) {
                    return;
                }
                if let Some(outcome) = thread.perform(work) {
                    // A worker that is gone needs no files.
                    let _ = done.send(outcome);
                    wake();
                }
            }
        };
        let thread = std::thread::Builder::new().name("kappa-stager".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::internal(format!("start a thread for a table's files: {error}")))?;
        Ok(Self { is_away: false, shared, work: Some(work), staged, thread: Some(thread) })
    }

    /// Hands over a change of this epoch.
    pub(super) fn write(&mut self, change: Change) {
        self.shared.bytes.fetch_add(bytes_of(&change), SeqCst);
        self.send(Work::Write(change));
    }

    /// That was all of the epoch.
    pub(super) fn prepare(&mut self, epoch: Epoch) {
        self.is_away = true;
        self.send(Work::Prepare(epoch));
    }

    /// A thread that is gone is noticed where its files are asked for.
    fn send(&self, work: Work) {
        if let Some(sender) = &self.work {
            let _ = sender.send(work);
        }
    }

    /// The files of the epoch that was handed over, once: none while they are made, or if there is no such epoch.
    pub(super) fn take_staged(&mut self) -> Result<Option<Vec<StagedFile>>> {
        match self.staged.try_recv() {
            Ok(outcome) => {
                self.is_away = false;
                outcome.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Error::internal("the writer of a table is gone")),
        }
    }

    /// Whether an epoch is on its way.
    pub(super) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Bytes of changes that are not written yet.
    pub(super) fn memory(&self) -> usize {
        self.shared.bytes.load(SeqCst)
    }
}

/// When it is gone, so is the thread; what it has not begun is not written.
impl Drop for Stager {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; what goes wrong in it was told.
            let _ = thread.join();
        }
    }
}

struct Thread {
    writer: Box<dyn StagingWriter>,
    shared: Arc<Shared>,
    /// Why this epoch has no files: told at its end.
    failed: Option<Error>,
}

impl Thread {
    /// Works; what came of an epoch, at its end.
    fn perform(&mut self, work: Work) -> Option<Result<Vec<StagedFile>>> {
        match work {
            Work::Write(change) => {
                let bytes = bytes_of(&change);
                if self.failed.is_none() {
                    self.failed = guarded(|| self.writer.write(change)).err();
                }
                self.shared.bytes.fetch_sub(bytes, SeqCst);
                None
            }
            Work::Prepare(epoch) => Some(match self.failed.take() {
                Some(error) => Err(error),
                None => guarded(|| self.writer.prepare(epoch)),
            }),
        }
    }
}

fn bytes_of(change: &Change) -> usize {
    match change {
        Change::Append(rows) | Change::Upsert(rows) | Change::Delete(rows) => rows.get_array_memory_size(),
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::internal("the writer of a table panicked")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::sink::StagedContent;

    /// Prepares an epoch when it is let; fails one that is 7, and panics at 8.
    struct Slow {
        changes: u64,
        go: Receiver<()>,
    }

    impl StagingWriter for Slow {
        fn write(&mut self, _: Change) -> Result<()> {
            self.changes += 1;
            Ok(())
        }

        fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedFile>> {
            self.go.recv().unwrap();
            assert!(epoch.0 != 8);
            let file = StagedFile {
                content: StagedContent::Data,
                path: epoch.to_string(),
                rows: std::mem::take(&mut self.changes),
                bytes: 0,
                checksum: 0,
                data_file: serde_json::Value::Null,
            };
            if epoch.0 == 7 { Err(Error::internal("seven")) } else { Ok(vec![file]) }
        }
    }

    #[test]
    fn files_come_once_they_are_durable_and_who_waits_is_woken() {
        let ((go, waits), (wake, woken)) = (bounded(1), bounded(1));
        let mut stager = Stager::new(Box::new(Slow { changes: 0, go: waits }), move || wake.send(()).unwrap()).unwrap();
        assert!(!stager.is_away() && stager.take_staged().unwrap().is_none());
        for epoch in 1..=8 {
            (0..epoch).for_each(|_| stager.write(Change::Append(RecordBatch::new_empty(Schema::empty().into()))));
            stager.prepare(Epoch(epoch));
            assert!(stager.is_away() && stager.take_staged().unwrap().is_none(), "nothing is durable yet");
            go.send(()).unwrap();
            woken.recv_timeout(Duration::from_secs(60)).unwrap();
            match (epoch, stager.take_staged()) {
                (7, Err(error)) => assert_eq!(error.message(), "seven"),
                (8, Err(error)) => assert!(error.message().contains("panicked"), "{error}"),
                (_, staged) => assert_eq!(staged.unwrap().unwrap()[0].rows, epoch),
            }
            assert!(!stager.is_away());
        }
    }

    #[test]
    fn rows_that_are_not_written_yet_count_as_memory_and_those_of_a_job_that_ends_are_not_written() {
        struct Held(Receiver<()>, Sender<()>);
        impl StagingWriter for Held {
            fn write(&mut self, _: Change) -> Result<()> {
                self.1.send(()).unwrap();
                let _ = self.0.recv();
                Ok(())
            }

            fn prepare(&mut self, _: Epoch) -> Result<Vec<StagedFile>> {
                panic!("nobody waits for files")
            }
        }
        let ((go, waits), (begin, begun)) = (bounded(0), unbounded());
        let mut stager = Stager::new(Box::new(Held(waits, begin)), || ()).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1000]));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        (0..3).for_each(|_| stager.write(Change::Append(rows.clone())));
        stager.prepare(Epoch(1));
        assert!(stager.memory() >= 3 * 8000);
        begun.recv().unwrap();
        go.send(()).unwrap();
        begun.recv().unwrap();
        assert!((2 * 8000..3 * 8000).contains(&stager.memory()), "one is written");
        let shared = stager.shared.clone();
        std::thread::scope(|scope| {
            let dropped = scope.spawn(move || drop(stager));
            while !shared.is_over.load(SeqCst) {
                std::thread::yield_now();
            }
            drop(go);
            dropped.join().unwrap();
        });
        assert!(begun.try_recv().is_err(), "the third was not begun");
    }

    #[test]
    fn when_it_is_gone_the_writer_is_too() {
        let ((go, waits), (held, released)) = (bounded::<()>(1), bounded::<()>(0));
        let stager = Stager::new(Box::new(Slow { changes: 0, go: waits }), move || assert!(held.is_empty()));
        drop((stager.unwrap(), go));
        assert!(released.try_recv().is_err_and(|error| error == TryRecvError::Disconnected));
    }
}

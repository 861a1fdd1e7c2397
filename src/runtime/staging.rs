//! Rows of groups on their way to the writer: a thread of its own encodes them and waits for the disk, so that a barrier does not hold
//! up the records behind it. The worker acknowledges the barrier once its files are durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::sink::{Change, StagedFile, StagingWriter};

/// What a barrier hands over.
struct Epochal {
    epoch: Epoch,
    changes: Vec<Change>,
}

/// A writer in a thread of its own, for one epoch at a time.
pub(super) struct Stager {
    changes: Vec<Change>,
    is_away: bool,
    epochs: Option<Sender<Epochal>>,
    staged: Receiver<Result<Vec<StagedFile>>>,
    thread: Option<JoinHandle<()>>,
}

impl Stager {
    /// Around a writer. `wake` wakes who waits for its files.
    pub(super) fn new(writer: Box<dyn StagingWriter>, wake: impl Fn() + Send + 'static) -> Result<Self> {
        let (epochs, from_worker) = bounded::<Epochal>(1);
        let (done, staged) = bounded(1);
        let mut writer = writer;
        let work = move || {
            for epoch in from_worker {
                let outcome = catch_unwind(AssertUnwindSafe(|| stage(&mut *writer, epoch)));
                let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("the writer of a table panicked")));
                // A worker that is gone needs no files.
                let _ = done.send(outcome);
                wake();
            }
        };
        let thread = std::thread::Builder::new().name("kappa-stager".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::internal(format!("start a thread for a table's files: {error}")))?;
        Ok(Self { changes: Vec::new(), is_away: false, epochs: Some(epochs), staged, thread: Some(thread) })
    }

    /// Adds a change of this epoch.
    pub(super) fn write(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Hands the epoch over.
    pub(super) fn prepare(&mut self, epoch: Epoch) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        self.is_away = true;
        let sent = self.epochs.as_ref().is_some_and(|epochs| epochs.try_send(Epochal { epoch, changes }).is_ok());
        if sent { Ok(()) } else { Err(Error::internal(format!("epoch {epoch} for a writer that has another one"))) }
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
}

fn stage(writer: &mut dyn StagingWriter, epoch: Epochal) -> Result<Vec<StagedFile>> {
    epoch.changes.into_iter().try_for_each(|change| writer.write(change))?;
    writer.prepare(epoch.epoch)
}

/// When it is gone, so is the thread: it leaves no file.
impl Drop for Stager {
    fn drop(&mut self) {
        self.epochs = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; what goes wrong in it was told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::RecordBatch;
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
            stager.prepare(Epoch(epoch)).unwrap();
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
    fn when_it_is_gone_the_writer_is_too() {
        let ((go, waits), (held, released)) = (bounded::<()>(1), bounded::<()>(0));
        let stager = Stager::new(Box::new(Slow { changes: 0, go: waits }), move || assert!(held.is_empty()));
        drop((stager.unwrap(), go));
        assert!(released.try_recv().is_err_and(|error| error == TryRecvError::Disconnected));
    }
}

//! Rendezvous: two versions take a checkpoint at one position of the log, while both run. Decisions only; the files are in
//! `checkpoint::rendezvous`, who asks is `lifecycle::rendezvous`.
//!
//! # The protocol
//!
//! Who asks puts a **request** beside the manifests of each version that runs. It has an identifier that rises with time, the
//! process that asks, and until when it holds. A process looks for requests a few times a second.
//!
//! 1. **Hold.** Each partition stops where it is, and an ordinary checkpoint is taken there. So the process knows its position, and
//!    **answers** with it, and with where its partitions end, if they do.
//! 2. **Meet.** Whoever asks takes the elementwise greatest of the answers ([`meeting_place`]) and adds it to each request. No
//!    version is past it: all hold. A version that does not run stands still anyway: then it is one of its snapshots.
//! 3. **Reach.** Each process reads on up to there, each partition stops there, and when all have, an ordinary checkpoint is taken.
//!    The moment its barrier is on its way the partitions read on. When the tables have the checkpoint, the process answers again.
//!
//! Nothing but ordinary checkpoints is made, so exactly once holds as ever; what differs is where barriers fall, and results do not
//! depend on that. Whatever goes wrong ends by itself: a request that is over, taken back, or whose asker is gone is none, and a
//! process that serves none reads on. One that restarts answers anew, from its last checkpoint: if it is past the place then, it
//! says so, and the asker begins again with another identifier. An asker may be stopped, or dead where that is not seen: who has
//! stood still for long without a place lets go, and says that it is past.
//!
//! Of several requests a process serves the one that is the oldest, but for those that it is done with. Since an asker puts all of
//! its requests down before it waits, two of them cannot wait for each other: both versions come to the same one first.

use std::collections::{BTreeMap, BTreeSet};

use super::position::{Position, is_behind, normal};
use crate::message::Epoch;

/// A request, as far as it decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Rises with time.
    pub id: String,
    /// Where to meet, once that is known.
    pub place: Option<Position>,
}

/// What a process does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Each partition stops where it is.
    Hold,
    /// Each partition reads on to this place, and stops there.
    ReadTo(Position),
    /// Partitions read on.
    Release,
    /// Says where it holds.
    AnswerHeld,
    /// Says that it is past the place.
    AnswerPast,
    /// Says that the tables have the checkpoint of the place.
    AnswerReached(Epoch),
}

/// How far a request is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is asked, or all of it is done.
    #[default]
    Free,
    /// Partitions were told to stop; a barrier is wanted.
    Stopping,
    /// The barrier that they stop at is on its way.
    Holding(Epoch),
    /// They hold.
    Held,
    /// They read on to the place; by worker, whether all of its partitions are there.
    Reading(Position, Vec<bool>),
    /// The barrier of the place is on its way.
    Reaching(Epoch),
}

/// A process's part in it.
#[derive(Debug, Default)]
pub struct Meeting {
    id: String,
    stage: Stage,
    position: Position,
    workers: usize,
    /// Requests that are still there and need nothing more.
    done: BTreeSet<String>,
}

impl Meeting {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    /// Whether a barrier is wanted now.
    pub fn wants_barrier(&self) -> bool {
        match &self.stage {
            Stage::Stopping => true,
            Stage::Reading(_, there) => there.iter().all(|there| *there),
            _ => false,
        }
    }

    /// Whether it has to do with a request now: then it looks more often.
    pub fn is_busy(&self) -> bool {
        self.stage != Stage::Free
    }

    /// The request that it serves.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it has to do with a request, or is done with it.
    pub fn knows(&self, id: &str) -> bool {
        self.id == id || self.done.contains(id)
    }

    /// Whether it stands still, or is about to, and is not told for which place.
    pub fn waits_for_place(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Holding(_) | Stage::Held)
    }

    /// What is asked now, the oldest first.
    pub fn see(&mut self, asked: &[Asked]) -> Vec<Act> {
        self.done.retain(|id| asked.iter().any(|asked| asked.id == *id));
        let asked = asked.iter().find(|asked| !self.done.contains(&asked.id));
        let mut acts = Vec::new();
        if asked.is_none_or(|asked| asked.id != self.id) {
            acts.extend((self.waits_for_place() || matches!(self.stage, Stage::Reading(..))).then_some(Act::Release));
            self.stage = Stage::Free;
            self.id = asked.map(|asked| asked.id.clone()).unwrap_or_default();
            if asked.is_some() {
                self.stage = Stage::Stopping;
                acts.push(Act::Hold);
            }
        }
        if let (Stage::Held, Some(place)) = (&self.stage, asked.and_then(|asked| asked.place.as_ref())) {
            if is_behind(&self.position, place) {
                acts.push(Act::ReadTo(place.clone()));
                self.stage = Stage::Reading(place.clone(), vec![false; self.workers]);
            } else {
                acts.extend(self.let_go());
            }
        }
        acts
    }

    /// It does not stand still for this request any more.
    pub fn let_go(&mut self) -> Vec<Act> {
        if !self.waits_for_place() {
            return Vec::new();
        }
        self.finish();
        vec![Act::Release, Act::AnswerPast]
    }

    fn finish(&mut self) {
        self.stage = Stage::Free;
        self.done.insert(self.id.clone());
    }

    /// All partitions of a worker are at the place.
    pub fn at_place(&mut self, worker: usize) {
        if let Stage::Reading(_, there) = &mut self.stage
            && let Some(there) = there.get_mut(worker)
        {
            *there = true;
        }
    }

    /// A barrier was sent. The workers hear of what is done now behind it.
    pub fn barrier_begun(&mut self, epoch: Epoch) -> Option<Act> {
        match &self.stage {
            Stage::Stopping => self.stage = Stage::Holding(epoch),
            Stage::Reading(_, there) if there.iter().all(|there| *there) => {
                self.stage = Stage::Reaching(epoch);
                return Some(Act::Release);
            }
            _ => {}
        }
        None
    }

    /// A checkpoint is durable, at this position. The last one of a run that ends there may begin before all have said that they
    /// are there: it is of the place all the same.
    pub fn taken(&mut self, epoch: Epoch, position: Position) -> Option<Act> {
        match &self.stage {
            Stage::Holding(holding) if *holding == epoch => {
                (self.stage, self.position) = (Stage::Held, position);
                Some(Act::AnswerHeld)
            }
            Stage::Reading(place, _) if normal(place) == normal(&position) => {
                self.stage = Stage::Reaching(epoch);
                Some(Act::Release)
            }
            _ => None,
        }
    }

    /// The tables have a checkpoint.
    pub fn delivered(&mut self, epoch: Epoch) -> Option<Act> {
        (self.stage == Stage::Reaching(epoch)).then(|| {
            self.finish();
            Act::AnswerReached(epoch)
        })
    }
}

/// What is known of a version that is to meet another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// It runs, and holds here; by topic and partition, where it ends.
    Holds {
        /// Where it is.
        position: Position,
        /// Where partitions end that do.
        ends: Position,
    },
    /// It does not run: it has snapshots at these positions, the newest first.
    Stands(Vec<Position>),
}

/// Why two versions cannot meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// Neither runs.
    NobodyRuns,
    /// The one that runs is past all that the other has.
    Past,
    /// The place would lie behind the end of one, or in a partition that it does not read.
    BehindEnd,
}

/// Where two versions meet: where all can come to, and nobody has to go back.
///
/// # Errors
/// There is no such place.
pub fn meeting_place(parties: &[Party; 2]) -> Result<Position, NoPlace> {
    let place = match parties {
        [Party::Holds { position: a, .. }, Party::Holds { position: b, .. }] => greatest(a, b),
        [Party::Holds { position, .. }, Party::Stands(kept)] | [Party::Stands(kept), Party::Holds { position, .. }] => {
            // The oldest that it can come to is the nearest.
            let mut ahead = kept.iter().rev().filter(|place| is_behind(position, place));
            ahead.next().cloned().ok_or(NoPlace::Past)?
        }
        [Party::Stands(_), Party::Stands(_)] => return Err(NoPlace::NobodyRuns),
    };
    let can_come = |party: &Party| match party {
        Party::Holds { position, ends } => normal(&place).iter().all(|(topic, partitions)| {
            partitions.iter().all(|(partition, offset)| {
                let of = |all: &Position| all.get(topic).and_then(|of| of.get(partition)).copied();
                of(position).is_some() && of(ends).is_none_or(|end| *offset <= end)
            })
        }),
        Party::Stands(_) => true,
    };
    if parties.iter().all(can_come) { Ok(place) } else { Err(NoPlace::BehindEnd) }
}

fn greatest(a: &Position, b: &Position) -> Position {
    let mut all = a.clone();
    for (topic, partitions) in b {
        let of: &mut BTreeMap<i32, i64> = all.entry(topic.clone()).or_default();
        for (partition, offset) in partitions {
            let at = of.entry(*partition).or_insert(*offset);
            *at = (*at).max(*offset);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[i64]) -> Position {
        [("t".to_owned(), (0..).zip(offsets.iter().copied()).collect())].into()
    }

    fn asked(id: &str, place: Option<&[i64]>) -> Asked {
        Asked { id: id.to_owned(), place: place.map(at) }
    }

    fn held(position: &[i64]) -> Meeting {
        let mut meeting = Meeting::new(2);
        assert_eq!(meeting.see(&[asked("1", None)]), [Act::Hold]);
        assert!(meeting.wants_barrier());
        assert_eq!(meeting.barrier_begun(Epoch(7)), None);
        assert!(!meeting.wants_barrier());
        assert_eq!(meeting.taken(Epoch(6), at(&[0])), None, "a barrier that was on its way before is of another place");
        assert_eq!(meeting.taken(Epoch(7), at(position)), Some(Act::AnswerHeld));
        meeting
    }

    #[test]
    fn a_process_holds_reads_on_to_the_place_and_goes_on_behind_its_barrier() {
        let mut meeting = held(&[3, 5]);
        assert_eq!(meeting.see(&[asked("1", None)]), []);
        assert_eq!(meeting.see(&[asked("1", Some(&[9, 5]))]), [Act::ReadTo(at(&[9, 5]))]);
        assert_eq!(meeting.see(&[asked("1", Some(&[9, 5]))]), [], "once");
        meeting.at_place(0);
        assert!(!meeting.wants_barrier());
        assert_eq!(meeting.barrier_begun(Epoch(8)), None, "one that is due on the way is of another place");
        meeting.at_place(1);
        assert!(meeting.wants_barrier());
        assert_eq!(meeting.barrier_begun(Epoch(9)), Some(Act::Release));
        assert_eq!(meeting.taken(Epoch(9), at(&[9, 5])), None);
        assert_eq!(meeting.delivered(Epoch(8)), None);
        assert_eq!(meeting.delivered(Epoch(9)), Some(Act::AnswerReached(Epoch(9))));
        assert_eq!(meeting.see(&[asked("1", Some(&[9, 5]))]), [], "it is done, until the next one");
        assert!(!meeting.is_busy());
        assert_eq!(meeting.see(&[asked("2", None)]), [Act::Hold]);
    }

    #[test]
    fn a_request_that_is_over_lets_go_at_every_stage() {
        let mut meeting = Meeting::new(2);
        meeting.see(&[asked("1", None)]);
        assert_eq!(meeting.see(&[]), [Act::Release]);
        let mut meeting = held(&[3]);
        assert_eq!(meeting.see(&[]), [Act::Release]);
        assert_eq!(meeting.see(&[]), []);
        let mut meeting = held(&[3]);
        meeting.see(&[asked("1", Some(&[9]))]);
        assert_eq!(meeting.see(&[]), [Act::Release]);
        assert!(!meeting.wants_barrier());
    }

    #[test]
    fn an_older_request_comes_first() {
        let mut meeting = held(&[3]);
        assert_eq!(meeting.see(&[asked("0", None)]), [Act::Release, Act::Hold]);
    }

    #[test]
    fn who_is_past_the_place_says_so_and_goes_on() {
        let mut meeting = held(&[3, 6]);
        assert_eq!(meeting.see(&[asked("1", Some(&[9, 5]))]), [Act::Release, Act::AnswerPast]);
        assert!(!meeting.is_busy());
    }

    #[test]
    fn a_checkpoint_of_the_place_is_one_whatever_it_was_taken_for() {
        let mut meeting = held(&[3, 5]);
        meeting.see(&[asked("1", Some(&[9, 5, 0]))]);
        meeting.at_place(0);
        assert_eq!(meeting.barrier_begun(Epoch(8)), None);
        assert_eq!(meeting.taken(Epoch(8), at(&[9, 4])), None, "one on the way");
        assert_eq!(meeting.barrier_begun(Epoch(9)), None, "it ends there, and not all have said that they are there");
        meeting.at_place(1);
        assert_eq!(meeting.taken(Epoch(9), at(&[9, 5])), Some(Act::Release));
        assert!(!meeting.wants_barrier());
        assert_eq!(meeting.delivered(Epoch(8)), None);
        assert_eq!(meeting.delivered(Epoch(9)), Some(Act::AnswerReached(Epoch(9))));
    }

    #[test]
    fn who_is_told_no_place_lets_go_for_good() {
        let mut stopping = Meeting::new(2);
        stopping.see(&[asked("1", None)]);
        let mut holding = Meeting::new(2);
        holding.see(&[asked("1", None)]);
        holding.barrier_begun(Epoch(7));
        for mut meeting in [stopping, holding, held(&[3])] {
            assert!(meeting.waits_for_place());
            assert_eq!(meeting.let_go(), [Act::Release, Act::AnswerPast]);
            assert!(!meeting.is_busy() && !meeting.wants_barrier());
            assert_eq!(meeting.taken(Epoch(7), at(&[3])), None);
            assert_eq!(meeting.see(&[asked("1", None)]), []);
            assert_eq!(meeting.see(&[asked("1", Some(&[9]))]), [], "whose asker wakes");
            assert_eq!(meeting.let_go(), []);
        }
        let mut reading = held(&[3]);
        reading.see(&[asked("1", Some(&[9]))]);
        assert!(!reading.waits_for_place());
        assert_eq!(reading.let_go(), [], "that takes as long as it takes");
    }

    #[test]
    fn a_request_that_is_done_is_in_nobodys_way() {
        let mut meeting = held(&[3]);
        meeting.let_go();
        let both = [asked("1", None), asked("2", None)];
        assert_eq!(meeting.see(&both), [Act::Hold]);
        assert!(meeting.knows("1") && meeting.knows("2") && meeting.id() == "2");
        meeting.let_go();
        assert_eq!(meeting.see(&both), [], "nor the first one again");
        assert_eq!(meeting.see(&both[1..]), []);
        assert!(!meeting.knows("1"), "what is gone need not be remembered");
    }

    fn holds(position: &[i64], ends: &[i64]) -> Party {
        Party::Holds { position: at(position), ends: at(ends) }
    }

    #[test]
    fn those_that_run_meet_where_none_has_to_go_back() {
        assert_eq!(meeting_place(&[holds(&[3, 9], &[]), holds(&[5, 2], &[])]), Ok(at(&[5, 9])));
        assert_eq!(meeting_place(&[holds(&[3, 9], &[4, 9]), holds(&[5, 2], &[])]), Err(NoPlace::BehindEnd));
        assert_eq!(meeting_place(&[holds(&[3], &[]), holds(&[5, 2], &[])]), Err(NoPlace::BehindEnd), "no such partition");
        assert_eq!(meeting_place(&[holds(&[3], &[]), holds(&[5, 0], &[])]), Ok(at(&[5, 0])), "nothing was read of it");
    }

    #[test]
    fn who_runs_comes_to_a_snapshot_of_who_does_not() {
        let kept = Party::Stands(vec![at(&[9, 9]), at(&[6, 5]), at(&[4, 1])]);
        assert_eq!(meeting_place(&[holds(&[4, 4], &[]), kept.clone()]), Ok(at(&[6, 5])), "the nearest");
        assert_eq!(meeting_place(&[kept.clone(), holds(&[9, 9], &[])]), Ok(at(&[9, 9])));
        assert_eq!(meeting_place(&[kept.clone(), holds(&[10, 0], &[])]), Err(NoPlace::Past));
        assert_eq!(meeting_place(&[kept.clone(), kept]), Err(NoPlace::NobodyRuns));
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, Date32Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{Date32Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::operator::exchange::{DistinctBlock, PartialBlock, TallyBlock};
use crate::operator::lookup::Room;
use crate::operator::steps::Rows;
use crate::plan::lower::lower;
use crate::plan::testing::*;
use crate::state::StateStore;
use crate::state::memory::MemoryStore;

const DAY: i64 = 86_400_000;
const AFTER: i64 = 2 * DAY;

/// Merchants by day, which expire two days after it.
fn spec() -> AggregateSpec {
    let by_day = group(
        source(),
        [named("day", dt_date(col("event_time"), "UTC")), named("status", col("status"))],
        [named("merchants", agg(crate::plan::expr::AggregateFunction::CountDistinct, col("merchant_id")))],
    );
    lower(&job([expiring(by_day, AFTER)])).unwrap().pipelines.remove(0).aggregate.unwrap()
}

fn zones() -> ZoneTables {
    ZoneTables::load(["UTC"]).unwrap()
}

fn expiry() -> Expiry {
    Expiry::new(&spec(), &zones()).unwrap().unwrap()
}

fn place(store: &Arc<MemoryStore>, family: &str, fresh: bool) -> Place {
    Place { store: store.clone(), family: family.to_owned(), key_groups: 0..1024, fresh }
}

fn groups(store: &Arc<MemoryStore>, fresh: bool) -> Groups {
    Groups::new(&spec(), Some(expiry()), place(store, "g", fresh), 1 << 10, false)
}

fn values(store: &Arc<MemoryStore>, fresh: bool) -> Values {
    Values::new(0, 0, Some(expiry()), place(store, "v", fresh), Room { cache: 4 << 10, waiting: 1 << 10 })
}

fn stored(store: &MemoryStore) -> usize {
    let mut entries = 0;
    for family in ["g", "v"] {
        let mut count = |_: &[u8], _: &[u8]| {
            entries += 1;
            Ok(())
        };
        store.scan(family, &mut count).unwrap();
    }
    entries
}

/// The key of a day and a status.
fn key(day: i32, status: u8) -> Vec<u8> {
    let columns: [ArrayRef; 2] =
        [Arc::new(Date32Array::from(vec![day])), Arc::new(arrow::array::StringArray::from(vec![format!("status {status}")]))];
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    KeyEncoder::new(&spec().key_types).unwrap().encode(&columns, &mut bytes, &mut ends).unwrap();
    bytes
}

/// A day, a status and a value.
type Pair = (i32, u8, u16);

fn blocks(pairs: &BTreeSet<Pair>) -> (PartialBlock, DistinctBlock) {
    let (mut partial, mut distinct) = (PartialBlock::default(), DistinctBlock::default());
    for (day, status, value) in pairs {
        let group = distinct.groups.push(&key(*day, *status));
        let value = distinct.values.push(format!("value {value}").as_bytes());
        distinct.pairs.push((group, value));
        partial.keys.push(&key(*day, *status));
        let mut empty = Vec::new();
        crate::operator::accumulator::encode_count(0, &mut empty);
        partial.partials.push(&empty);
    }
    (partial, distinct)
}

fn closed_after(day: i32) -> i64 {
    i64::from(day + 1) * DAY + AFTER
}

/// A worker's groups and values, and the table that they write.
struct Worker {
    store: Arc<MemoryStore>,
    groups: Groups,
    values: Values,
    table: BTreeMap<(i32, String), i64>,
}

impl Worker {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let (groups, values) = (groups(&store, true), values(&store, true));
        Self { store, groups, values, table: BTreeMap::new() }
    }

    fn take(&mut self, pairs: &BTreeSet<Pair>) {
        let (partial, distinct) = blocks(pairs);
        self.groups.merge(partial).unwrap();
        self.values.process(distinct, true).unwrap();
    }

    fn tallied(&mut self, send: impl FnOnce(&mut Values, &mut dyn FnMut(usize, TallyBlock))) {
        let mut tallies = Vec::new();
        send(&mut self.values, &mut |_, block| tallies.push(block));
        tallies.into_iter().for_each(|block| self.groups.tally(block).unwrap());
    }

    fn barrier(&mut self, most: usize) {
        self.tallied(|values, emit| values.flush_tallies(1, emit).unwrap());
        self.values.flush_state().unwrap();
        while let Some(changed) = self.groups.take_changed(most).unwrap() {
            let days = changed.keys[0].as_primitive::<Date32Type>();
            let counts = changed.results[0].as_primitive::<Int64Type>();
            for (row, status) in changed.keys[1].as_string::<i32>().iter().enumerate() {
                self.table.insert((days.value(row), status.unwrap().to_owned()), counts.value(row));
            }
        }
        self.groups.flush_state().unwrap();
        assert_eq!((self.groups.dirty(), self.groups.changed(), self.values.dirty()), (0, 0, 0));
    }

    fn relieve(&mut self, evict: bool) {
        self.tallied(|values, emit| values.relieve(evict, 1, emit).unwrap());
        self.groups.relieve(evict, true).unwrap();
    }

    fn expire(&mut self, closed_ms: i64) {
        self.groups.expire(closed_ms).unwrap();
        self.values.expire(closed_ms).unwrap();
    }

    fn restart(&mut self) {
        self.groups = groups(&self.store, false);
        self.values = values(&self.store, false);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Pairs come; days count from the first that has not expired.
    Take(BTreeSet<(u8, u8, u16)>),
    Relieve {
        evict: bool,
    },
    Barrier(usize),
    /// At a barrier, so many days are over.
    Expire(u8),
    /// After a barrier: another process goes on from the store.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pairs = proptest::collection::btree_set((0..4u8, 0..3u8, 0..40u16), 1..40);
    let step = prop_oneof![
        6 => pairs.prop_map(Step::Take),
        2 => any::<bool>().prop_map(|evict| Step::Relieve { evict }),
        1 => prop_oneof![Just(1usize), Just(usize::MAX)].prop_map(Step::Barrier),
        1 => (0..3u8).prop_map(Step::Expire),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Whatever happens in between, each value is counted once in each group; and of groups that are over nothing is left.
    #[test]
    fn rows_stay_right_and_what_is_over_goes(steps in steps()) {
        let (mut worker, mut model, mut first) = (Worker::new(), BTreeSet::new(), 0);
        for step in steps {
            match step {
                Step::Take(pairs) => {
                    let pairs = pairs.into_iter().map(|(day, status, value)| (first + i32::from(day), status, value)).collect();
                    worker.take(&pairs);
                    model.extend(pairs);
                }
                Step::Relieve { evict } => worker.relieve(evict),
                Step::Barrier(most) => worker.barrier(most),
                Step::Expire(days) => {
                    worker.barrier(usize::MAX);
                    first += i32::from(days);
                    // One millisecond less, and the day before is not over.
                    worker.expire(closed_after(first) - 1);
                    worker.expire(closed_after(first - 1));
                }
                Step::Restart => {
                    worker.barrier(3);
                    worker.restart();
                    worker.expire(closed_after(first - 1));
                }
            }
        }
        worker.barrier(usize::MAX);
        let mut expected = BTreeMap::new();
        for (day, status, _) in &model {
            *expected.entry((*day, format!("status {status}"))).or_insert(0) += 1;
        }
        prop_assert_eq!(&worker.table, &expected);
        let alive: BTreeSet<i32> = model.iter().map(|(day, ..)| *day).filter(|day| *day >= first).collect();
        prop_assert_eq!(stored(&worker.store) > 0, !alive.is_empty());
        for day in alive {
            worker.expire(closed_after(day));
        }
        prop_assert_eq!(stored(&worker.store), 0);
        worker.relieve(true);
        prop_assert_eq!((worker.groups.memory(), worker.values.memory()), (0, 0));
    }
}

#[test]
fn what_has_expired_never_comes_back() {
    let mut worker = Worker::new();
    worker.take(&BTreeSet::from([(3, 0, 1), (4, 0, 1)]));
    worker.barrier(usize::MAX);
    let before = stored(&worker.store);
    worker.expire(closed_after(3) - 1);
    assert_eq!(stored(&worker.store), before);
    worker.expire(closed_after(3));
    assert_eq!(stored(&worker.store), before / 2);
    let (partial, distinct) = blocks(&BTreeSet::from([(3, 0, 2)]));
    assert_eq!(worker.groups.merge(partial).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(worker.values.process(distinct, true).unwrap_err().kind(), ErrorKind::Internal);
    // What still changes is not over.
    worker.take(&BTreeSet::from([(4, 0, 2)]));
    assert_eq!(worker.groups.expire(closed_after(4)).unwrap_err().kind(), ErrorKind::Internal);
}

/// However many slices are open, what an operator holds is bounded once.
#[test]
fn open_slices_share_one_room() {
    let store = Arc::new(MemoryStore::default());
    let room = Room { cache: 4 << 10, waiting: 16 << 10 };
    let open = |fresh| Values::new(0, 0, Some(expiry()), place(&store, "v", fresh), room);
    let days: Vec<BTreeSet<Pair>> = (0..30).map(|day| (0..200).map(|value| (day, 0, value)).collect()).collect();
    let mut total = 0;
    let mut values = open(true);
    for round in 0..3 {
        days.iter().for_each(|pairs| values.process(blocks(pairs).1, true).unwrap());
        values.settle(true).unwrap();
        let held = values.held();
        // At first everything is in memory; from then on containers are read, and there is no room for all of them.
        assert!(if round == 0 { held.containers > 2 * room.cache } else { held.containers <= room.cache }, "{held:?}");
        values.relieve(true, 1, &mut |_, block| total += block.counts.iter().sum::<i64>()).unwrap();
        values.relieve(true, 1, &mut |_, block| total += block.counts.iter().sum::<i64>()).unwrap();
        let held = values.held();
        assert!(held.seen <= room.waiting && held.memory < 30 * 4096, "{held:?}");
    }
    assert_eq!(total, 30 * 200);
    values.flush_state().unwrap();
    assert_eq!((values.dirty(), values.held().dirty_containers), (0, 0));
}

/// Groups that changed stay in memory: where they are most of it, they are not copied again and again to free little.
#[test]
fn an_eviction_of_open_slices_leaves_alone_what_changed() {
    let store = Arc::new(MemoryStore::default());
    let mut groups = groups(&store, true);
    // Few in each, many in all.
    let days: Vec<BTreeSet<Pair>> = (0..60).map(|day| (0..100).map(|status| (day, status, 0)).collect()).collect();
    for pairs in &days {
        groups.merge(blocks(pairs).0).unwrap();
    }
    groups.relieve(true, false).unwrap();
    assert_eq!((groups.changed(), groups.dirty()), (6000, 6000));
    while groups.take_changed(usize::MAX).unwrap().is_some() {}
    let before = groups.memory();
    groups.relieve(true, false).unwrap();
    assert!(groups.dirty() == 0 && groups.memory() * 4 < before, "{} of {before}", groups.memory());
}

#[test]
fn workers_clear_their_own_key_groups_only() {
    let mut worker = Worker::new();
    worker.take(&(0..500).map(|value| (0, 0, value)).collect());
    worker.barrier(usize::MAX);
    let before = stored(&worker.store);
    let mut left = Vec::new();
    for key_groups in [0..300, 300..1024] {
        let place = Place { key_groups, ..place(&worker.store, "v", false) };
        Values::new(0, 0, Some(expiry()), place, Room { cache: 0, waiting: 0 }).expire(closed_after(0)).unwrap();
        left.push(stored(&worker.store));
    }
    assert!(left[0] < before && left[0] > before / 2, "{left:?} of {before}");
    assert_eq!(left[1], 1, "the group itself");
}

#[test]
fn rows_that_come_too_late_for_their_group_are_left_out() {
    let read = read().schema;
    let times = |times: Vec<i64>| Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")) as ArrayRef;
    let text = |rows| Arc::new(arrow::array::StringArray::from(vec!["x"; rows])) as ArrayRef;
    let rows = |at: Vec<i64>, watermarks: Vec<i64>| {
        let n = at.len();
        let columns = vec![text(n), Arc::new(Int64Array::from(vec![1; n])) as ArrayRef, text(n), times(at), text(n)];
        let batch = RecordBatch::try_new(read.to_arrow(), columns).unwrap();
        Rows { batch, order: None, watermarks: Some(watermarks.into()) }
    };
    let in_time = ExpiringRows::new(&spec(), &read, &zones()).unwrap().unwrap();
    let kept = |at, watermarks| in_time.keep(rows(at, watermarks)).unwrap().watermarks.unwrap().values().to_vec();
    let over = closed_after(0);
    assert_eq!(kept(vec![0, DAY - 1, DAY, 5], vec![i64::MIN, over - 1, over, over]), [i64::MIN, over - 1, over]);
    assert_eq!(kept(vec![0, 1], vec![0, over - 1]).len(), 2);
    assert_eq!(kept(vec![], vec![]).len(), 0);
}

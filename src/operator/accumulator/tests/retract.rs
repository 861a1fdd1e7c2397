//! What is taken back leaves no trace: the bytes are those of the rows that are left.

use proptest::prelude::*;

use super::*;

/// Every call that can take rows back.
fn retracting() -> Vec<(AggregateCall, DataType)> {
    use Function as F;
    let can = |function: &Function| matches!(function, F::Len | F::Count | F::Sum | F::Mean);
    let calls = calls().into_iter().filter(|(function, _)| can(function));
    calls.map(|(function, data_type)| (AggregateCall { retracts: true, ..call(function, &data_type) }, data_type)).collect()
}

fn folded(call: &AggregateCall, data_type: &DataType, numbers: &[Option<i64>], filter: Option<&[bool]>) -> Vec<u8> {
    let mut accumulator = create(call).unwrap();
    let filter = filter.map(|keep| BooleanArray::from(keep.to_vec()));
    update(&mut *accumulator, &column(data_type, numbers), filter.as_ref());
    encoded(&*accumulator, 0)
}

/// A change of a slot: some rows, added or taken back.
#[derive(Clone, Debug)]
struct Step {
    rows: Vec<Option<i64>>,
    /// Whether, and at which later time among others, they are taken back.
    back: Option<u32>,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = proptest::collection::vec(proptest::option::weighted(0.8, -20i64..=20), 0..6);
    let step = (rows, proptest::option::of(any::<u32>())).prop_map(|(rows, back)| Step { rows, back });
    proptest::collection::vec(step, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_left_is_as_if_nothing_else_had_been(steps in any_steps()) {
        for (call, data_type) in retracting() {
            let mut total = create(&call).unwrap();
            total.ensure(2);
            // Each is added in its turn; those that go are taken back afterwards in another order.
            for step in &steps {
                total.merge(1, &mut &folded(&call, &data_type, &step.rows, None)[..]).unwrap();
            }
            let mut gone: Vec<&Step> = steps.iter().filter(|step| step.back.is_some()).collect();
            gone.sort_by_key(|step| step.back);
            for step in gone {
                let bytes = folded(&call, &data_type, &step.rows, None);
                let mut rest = &bytes[..];
                total.retract(1, &mut rest).unwrap();
                prop_assert!(rest.is_empty());
            }
            let left: Vec<_> = steps.iter().filter(|step| step.back.is_none()).flat_map(|step| step.rows.clone()).collect();
            prop_assert_eq!(encoded(&*total, 1), folded(&call, &data_type, &left, None), "{:?}", call);
            let mut only = create(&call).unwrap();
            update(&mut *only, &column(&data_type, &left), None);
            match (total.output(&[1]), only.output(&[0])) {
                (Ok(a), Ok(b)) => prop_assert_eq!(a.to_data(), b.to_data(), "{:?}", call),
                (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
                (a, b) => prop_assert!(false, "{:?} {:?} {:?}", call, a, b),
            }
            // The neighbour was not touched.
            prop_assert_eq!(encoded(&*total, 0), folded(&call, &data_type, &[], None));
        }
    }

    /// Sums of what can be taken back are those of what cannot.
    #[test]
    fn results_do_not_depend_on_being_able_to(numbers in proptest::collection::vec(proptest::option::of(-20i64..=20), 0..12)) {
        for (call, data_type) in retracting() {
            let result = |call: &AggregateCall| {
                let mut accumulator = create(call).unwrap();
                update(&mut *accumulator, &column(&data_type, &numbers), None);
                accumulator.output(&[0]).map(|column| column.to_data()).map_err(|error| error.to_string())
            };
            prop_assert_eq!(result(&call), result(&AggregateCall { retracts: false, ..call.clone() }));
        }
    }

    /// Whatever is on the disk or comes over the exchange: an answer or a corruption error, and the slot as it was.
    #[test]
    fn damage_is_found_or_read(
        numbers in proptest::collection::vec(proptest::option::of(-20i64..=20), 1..6),
        at in any::<usize>(), byte in any::<u8>(), back in any::<bool>(),
    ) {
        for (call, data_type) in retracting() {
            let before = folded(&call, &data_type, &numbers, None);
            let mut accumulator = create(&call).unwrap();
            accumulator.ensure(1);
            accumulator.merge(0, &mut &before[..]).unwrap();
            let mut bytes = before.clone();
            let at = at % bytes.len();
            bytes[at] = byte;
            let mut rest = &bytes[..];
            let done = if back { accumulator.retract(0, &mut rest) } else { accumulator.merge(0, &mut rest) };
            let now = encoded(&*accumulator, 0);
            if let Err(error) = done {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
                prop_assert_eq!(now, before);
            } else {
                // What is stored can be read again.
                let mut again = create(&call).unwrap();
                again.ensure(1);
                again.merge(0, &mut &now[..]).unwrap();
                prop_assert_eq!(encoded(&*again, 0), now);
            }
        }
    }
}

#[test]
fn more_than_was_added_cannot_be_taken_back() {
    for (call, data_type) in retracting() {
        let mut accumulator = create(&call).unwrap();
        update(&mut *accumulator, &column(&data_type, &[Some(1)]), None);
        let before = encoded(&*accumulator, 0);
        let two = folded(&call, &data_type, &[Some(1), Some(2)], None);
        let error = accumulator.retract(0, &mut &two[..]).unwrap_err();
        assert_eq!((error.kind(), encoded(&*accumulator, 0)), (ErrorKind::Corruption, before), "{call:?}");
        assert!(error.message().contains("more is taken back"), "{error}");
    }
    // Another value than the one that is there: no rows, but a sum.
    for data_type in [DataType::Int64, decimal_type(), DataType::Float64] {
        let call = AggregateCall { retracts: true, ..call(Function::Sum, &data_type) };
        let mut accumulator = create(&call).unwrap();
        update(&mut *accumulator, &column(&data_type, &[Some(1)]), None);
        let other = folded(&call, &data_type, &[Some(2)], None);
        assert_eq!(accumulator.retract(0, &mut &other[..]).unwrap_err().kind(), ErrorKind::Corruption, "{data_type}");
    }
}

#[test]
fn special_values_go_as_they_came() {
    let call = AggregateCall { retracts: true, ..call(Function::Sum, &DataType::Float64) };
    let sum = |accumulator: &dyn Accumulator| {
        accumulator.output(&[0]).unwrap().as_any().downcast_ref::<Float64Array>().unwrap().value(0)
    };
    let mut total = create(&call).unwrap();
    update(&mut *total, &column(&DataType::Float64, &[Some(20), Some(-20), Some(19), Some(20), Some(0), Some(10)]), None);
    let mut back = |number| {
        total.retract(0, &mut &folded(&call, &DataType::Float64, &[Some(number)], None)[..]).unwrap();
        sum(&*total)
    };
    assert!(back(20).is_nan());
    assert!(back(19).is_nan(), "both infinities are left");
    assert_eq!(back(-20), f64::INFINITY);
    assert_eq!(back(20), float(10));
    assert_eq!(back(10), 0.0);
}

#[test]
fn memory_of_what_is_taken_back_is_given_back() {
    let call = AggregateCall { retracts: true, ..call(Function::Sum, &DataType::Float64) };
    let mut total = create(&call).unwrap();
    total.ensure(1);
    let empty = total.memory();
    update(&mut *total, &column(&DataType::Float64, &[Some(15), Some(-15)]), None);
    assert!(total.memory() > empty);
    total.retract(0, &mut &folded(&call, &DataType::Float64, &[Some(15), Some(-15)], None)[..]).unwrap();
    assert_eq!(total.memory(), empty);
    total.reset(0);
    assert_eq!(total.memory(), empty);
}

#[test]
fn an_extreme_cannot_be_taken_back() {
    for (function, data_type) in calls() {
        if matches!(function, Function::Min | Function::Max | Function::First | Function::Last) {
            let mut accumulator = accumulator(function, &data_type);
            update(&mut *accumulator, &column(&data_type, &[Some(1)]), None);
            let bytes = encoded(&*accumulator, 0);
            assert_eq!(accumulator.retract(0, &mut &bytes[..]).unwrap_err().kind(), ErrorKind::Internal);
        }
    }
    let mut tally = DistinctTally::default();
    tally.ensure(1);
    assert_eq!(tally.retract(0, &mut &[0; 8][..]).unwrap_err().kind(), ErrorKind::Internal);
}

//! However rows are split and ordered: the same bytes and the same results.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
struct Row {
    number: Option<i64>,
    group: u32,
    keep: Option<bool>,
    event_time: i64,
    partition: i32,
}

fn any_row() -> impl Strategy<Value = Row> {
    let number = proptest::option::weighted(0.8, -20i64..=20);
    let keep = prop_oneof![4 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    (number, 0u32..3, keep, 0i64..4, 0i32..2).prop_map(|(number, group, keep, event_time, partition)| Row {
        number,
        group,
        keep,
        event_time,
        partition,
    })
}

struct Data<'a> {
    rows: &'a [Row],
    column: ArrayRef,
    filtered: bool,
}

/// Adds rows, by number, in runs of one partition.
fn add(accumulator: &mut dyn Accumulator, data: &Data<'_>, numbers: &[usize], slot_of: impl Fn(u32) -> u32) {
    for run in numbers.chunk_by(|&a, &b| data.rows[a].partition == data.rows[b].partition) {
        let rows: Vec<Row> = run.iter().map(|&number| data.rows[number]).collect();
        let indices: UInt32Array = run.iter().map(|&number| number as u32).collect::<Vec<_>>().into();
        let column = arrow::compute::take(&data.column, &indices, None).unwrap();
        let filter: BooleanArray = rows.iter().map(|row| row.keep).collect();
        let event_time: Vec<i64> = rows.iter().map(|row| row.event_time).collect();
        let offsets: Vec<i64> = run.iter().map(|&number| number as i64).collect();
        let order = RowOrder { event_time: &event_time, partition: rows[0].partition, offsets: &offsets };
        let slots: Vec<u32> = rows.iter().map(|row| slot_of(row.group)).collect();
        accumulator.update(&slots, Some(&column), data.filtered.then_some(&filter), &order).unwrap();
    }
}

fn check(call: &AggregateCall, data: &Data<'_>, shuffled: &[usize], cuts: &[usize]) -> Result<(), TestCaseError> {
    let mut whole = create(call).unwrap();
    whole.ensure(3);
    add(&mut *whole, data, &(0..data.rows.len()).collect::<Vec<_>>(), |group| group);

    let mut owner = create(call).unwrap();
    let mut partial = create(call).unwrap();
    owner.ensure(6);
    partial.ensure(3);
    let mut start = 0;
    for end in cuts.iter().copied().chain([shuffled.len()]) {
        let end = end.clamp(start, shuffled.len());
        add(&mut *partial, data, &shuffled[start..end], |group| 2 - group);
        for group in (0..3).rev() {
            let bytes = encoded(&*partial, 2 - group);
            let mut rest = &bytes[..];
            owner.merge(group + 3, &mut rest).unwrap();
            prop_assert!(rest.is_empty());
            partial.reset(2 - group);
        }
        start = end;
    }
    for group in 0..3 {
        prop_assert_eq!(encoded(&*whole, group), encoded(&*owner, group + 3), "{:?}", call);
    }
    match (whole.output(&[2, 0, 1, 0]), owner.output(&[5, 3, 4, 3])) {
        (Ok(a), Ok(b)) => {
            prop_assert_eq!(a.to_data(), b.to_data(), "{:?}", call);
            prop_assert_eq!(a.data_type(), &call.output_type.to_arrow());
        }
        (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
        (a, b) => prop_assert!(false, "{:?} {:?} {:?}", call, a, b),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn splits_and_orders_do_not_show(
        (rows, shuffled) in proptest::collection::vec(any_row(), 0..30).prop_flat_map(|rows| {
            let numbers: Vec<usize> = (0..rows.len()).collect();
            (Just(rows), Just(numbers).prop_shuffle())
        }),
        cuts in proptest::collection::vec(0usize..30, 0..4),
        filtered in any::<bool>(),
        ignore_nulls in any::<bool>(),
    ) {
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        let mut cuts = cuts;
        cuts.sort_unstable();
        for (function, data_type) in calls() {
            let data = Data { rows: &rows, column: column(&data_type, &numbers), filtered };
            let call = AggregateCall { ignore_nulls, ..call(function, &data_type) };
            check(&call, &data, &shuffled, &cuts)?;
        }
    }

    /// Against sums, extremes and places computed over plain values.
    #[test]
    fn results_are_those_of_plain_values(rows in proptest::collection::vec(any_row(), 0..30), filtered in any::<bool>()) {
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        let mut kept: Vec<(usize, &Row)> = rows.iter().enumerate()
            .filter(|(_, row)| row.group == 1 && (!filtered || row.keep == Some(true))).collect();
        kept.sort_by_key(|(number, row)| (row.event_time, row.partition, *number));
        let result = |function, data_type: &DataType| {
            let data = Data { rows: &rows, column: column(data_type, &numbers), filtered };
            let mut accumulator = accumulator(function, data_type);
            accumulator.ensure(3);
            add(&mut *accumulator, &data, &(0..rows.len()).collect::<Vec<_>>(), |group| group);
            accumulator.output(&[1]).unwrap()
        };
        let values: Vec<i64> = kept.iter().filter_map(|(_, row)| row.number).collect();
        let floats: Vec<f64> = values.iter().map(|&number| float(number)).collect();
        let some = |value: i64| (!values.is_empty()).then_some(value);
        let sum: i64 = values.iter().sum();
        use Function as F;
        let int64 = |value: Option<i64>| Int64Array::from(vec![value]).to_data();
        prop_assert_eq!(result(F::Len, &DataType::Int32).to_data(), int64(Some(kept.len() as i64)));
        prop_assert_eq!(result(F::Count, &DataType::String).to_data(), int64(Some(values.len() as i64)));
        prop_assert_eq!(result(F::Sum, &DataType::Int32).to_data(), int64(some(sum)));
        let mean = some(0).map(|_| sum as f64 / values.len() as f64);
        prop_assert_eq!(result(F::Mean, &DataType::Int32).to_data(), Float64Array::from(vec![mean]).to_data());
        for (function, expected) in [
            (F::Min, values.iter().min().copied()),
            (F::Max, values.iter().max().copied()),
            (F::First, kept.first().and_then(|(_, row)| row.number)),
            (F::Last, kept.last().and_then(|(_, row)| row.number)),
        ] {
            for data_type in [DataType::Int32, DataType::Date, DataType::Timestamp(TimeUnit::Microsecond), decimal_type()] {
                let expected = column(&data_type, &[expected]);
                prop_assert_eq!(result(function, &data_type).to_data(), expected.to_data(), "{:?} {}", function, data_type);
            }
        }
        if floats.iter().all(|value| value.is_finite()) {
            let expected = (!values.is_empty()).then(|| float_sum::tests::fsum(&floats));
            prop_assert_eq!(result(F::Sum, &DataType::Float64).to_data(), Float64Array::from(vec![expected]).to_data());
        }
        let rank = |value: &f64| (value.is_nan(), if value.is_nan() { 0.0 } else { value + 0.0 });
        let greatest = floats.iter().map(rank).max_by(|a, b| a.partial_cmp(b).unwrap());
        let greatest = greatest.map(|(nan, value)| if nan { f64::NAN } else { value });
        prop_assert_eq!(result(F::Max, &DataType::Float64).to_data(), Float64Array::from(vec![greatest]).to_data());
    }

    /// Whatever is on the disk: an answer or a corruption error, and the slot as it was.
    #[test]
    fn damage_is_found_or_read(
        numbers in proptest::collection::vec(proptest::option::of(-20i64..=20), 1..6),
        at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        for (function, data_type) in calls() {
            let mut accumulator = accumulator(function, &data_type);
            update(&mut *accumulator, &column(&data_type, &numbers), None);
            let before = encoded(&*accumulator, 0);
            let mut bytes = before.clone();
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let mut rest = &bytes[..];
            match accumulator.merge(0, &mut rest) {
                Ok(()) => {
                    prop_assert!(!cut, "{:?} {}", function, data_type);
                    let kind = accumulator.output(&[0]).err().map(|error| error.kind());
                    prop_assert!(matches!(kind, None | Some(ErrorKind::Data | ErrorKind::Corruption)), "{:?}", kind);
                }
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Corruption);
                    prop_assert_eq!(encoded(&*accumulator, 0), before);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_found_or_read(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..40)) {
        for (function, data_type) in calls() {
            let mut accumulator = accumulator(function, &data_type);
            accumulator.ensure(1);
            if let Err(error) = accumulator.merge(0, &mut &bytes[..]) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
            encoded(&*accumulator, 0);
            let _ = accumulator.output(&[0]);
        }
    }
}

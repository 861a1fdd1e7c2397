//! Results at the edges of types.

use super::*;

fn one(function: Function, data_type: &DataType, column: ArrayRef) -> Result<ArrayRef> {
    let mut accumulator = accumulator(function, data_type);
    update(&mut *accumulator, &column, None);
    accumulator.output(&[0])
}

#[test]
fn integer_sums_go_beyond_64_bits_on_the_way_but_not_at_the_end() {
    let sum = |values: Vec<i64>| one(Function::Sum, &DataType::Int64, Arc::new(Int64Array::from(values)));
    let fits: &dyn Array = &Int64Array::from(vec![i64::MAX]);
    assert_eq!(sum(vec![i64::MAX, i64::MAX, -i64::MAX]).unwrap().as_ref(), fits);
    for values in [vec![i64::MAX, 1], vec![i64::MIN, -1], vec![i64::MIN; 1000]] {
        let error = sum(values).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Data, "sum_overflow"));
        assert!(error.message().contains("column result"), "{error}");
    }
    let mean = one(Function::Mean, &DataType::Int64, Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX]))).unwrap();
    let expected: &dyn Array = &Float64Array::from(vec![i64::MAX as f64]);
    assert_eq!(mean.as_ref(), expected);
}

#[test]
fn decimal_sums_are_checked_against_38_digits() {
    let greatest = 10_i128.pow(38) - 1;
    let sum = |values: Vec<i128>| one(Function::Sum, &decimal_type(), decimals(values.into_iter().map(Some).collect()));
    for sign in [1, -1] {
        let values = vec![greatest * sign, greatest * sign, -greatest * sign];
        assert_eq!(sum(values).unwrap().as_ref(), decimals(vec![Some(greatest * sign)]).as_ref());
        let error = sum(vec![greatest * sign, sign]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Data, "sum_overflow"));
    }
    assert_eq!(sum(vec![]).unwrap().as_ref(), decimals(vec![None]).as_ref());
    let error = sum(vec![greatest; 1000]).unwrap_err();
    assert!(error.message().contains("999999999999999999999999999999999999990.00"), "{error}");
    // 0.10 + 0.20 + 0.31, of three.
    let mean = one(Function::Mean, &decimal_type(), decimals(vec![Some(10), None, Some(20), Some(31)])).unwrap();
    let expected: &dyn Array = &Float64Array::from(vec![61.0 / 300.0]);
    assert_eq!(mean.as_ref(), expected);
}

#[test]
fn zero_has_one_sign_and_nan_is_greatest_in_extremes() {
    let floats = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let bits = |array: ArrayRef| array.as_any().downcast_ref::<Float64Array>().unwrap().value(0).to_bits();
    for function in [Function::Min, Function::Max] {
        assert_eq!(bits(one(function, &DataType::Float64, floats(vec![-0.0])).unwrap()), 0);
    }
    let values = || floats(vec![f64::from_bits(0xffff_ffff_ffff_ffff), 1.0, f64::INFINITY]);
    assert_eq!(bits(one(Function::Max, &DataType::Float64, values()).unwrap()), f64::NAN.to_bits());
    assert_eq!(bits(one(Function::Min, &DataType::Float64, values()).unwrap()), 1.0_f64.to_bits());
    // What is only kept, not compared, is as it came.
    assert_eq!(bits(one(Function::First, &DataType::Float64, floats(vec![-0.0])).unwrap()), (-0.0_f64).to_bits());
}

#[test]
fn extremes_of_the_type_are_values_like_others() {
    let cases = [(Function::Min, i64::MAX), (Function::Max, i64::MIN)];
    for (function, value) in cases {
        let expected: ArrayRef = Arc::new(Int64Array::from(vec![Some(value)]));
        assert_eq!(one(function, &DataType::Int64, expected.clone()).unwrap().as_ref(), expected.as_ref());
        let none: ArrayRef = Arc::new(Int64Array::from(vec![None]));
        assert_eq!(one(function, &DataType::Int64, none.clone()).unwrap().as_ref(), none.as_ref());
    }
}

#[test]
fn extremes_with_too_many_digits_are_refused_at_the_end() {
    let narrow = DataType::Decimal { precision: 3, scale: 2 };
    let values: ArrayRef = Arc::new(Decimal128Array::from(vec![999, 1000]).with_data_type(narrow.to_arrow()));
    let least = one(Function::Min, &narrow, values.clone()).unwrap();
    assert_eq!((least.as_ref(), least.data_type()), (values.slice(0, 1).as_ref(), &narrow.to_arrow()));
    let error = one(Function::Max, &narrow, values).unwrap_err();
    assert_eq!((error.kind(), error.context()), (ErrorKind::Data, &[("column", "result".to_owned())][..]));
}

#[test]
fn first_and_last_keep_nulls_unless_told_not_to() {
    let column: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a"), Some("b"), None]));
    for (function, ignore_nulls, expected) in [
        (Function::First, false, None),
        (Function::Last, false, None),
        (Function::First, true, Some("a")),
        (Function::Last, true, Some("b")),
    ] {
        let mut accumulator = create(&AggregateCall { ignore_nulls, ..call(function, &DataType::String) }).unwrap();
        update(&mut *accumulator, &column, None);
        let expected: &dyn Array = &StringArray::from(vec![expected]);
        assert_eq!(accumulator.output(&[0]).unwrap().as_ref(), expected, "{function:?} {ignore_nulls}");
    }
}

#[test]
fn a_filter_that_is_null_is_not_true_whatever_its_hidden_bit() {
    let hidden = BooleanArray::new(vec![true, true, false].into(), Some(vec![true, false, true].into()));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 10, 100]));
    for (function, data_type) in [(LEN, DataType::Int64), (Function::Sum, DataType::Int64)] {
        let mut accumulator = accumulator(function, &data_type);
        update(&mut *accumulator, &column, Some(&hidden));
        let expected: &dyn Array = &Int64Array::from(vec![1]);
        assert_eq!(accumulator.output(&[0]).unwrap().as_ref(), expected);
    }
}

#[test]
fn a_tally_adds_what_owners_report() {
    let mut tally = DistinctTally::default();
    tally.ensure(2);
    tally.add(1, 5).unwrap();
    let mut bytes = Vec::new();
    encode_count(7, &mut bytes);
    tally.merge(1, &mut &bytes[..]).unwrap();
    let expected: &dyn Array = &Int64Array::from(vec![0, 12]);
    assert_eq!(tally.output(&[0, 1]).unwrap().as_ref(), expected);
    let mut created = accumulator(Function::CountDistinct, &list_type());
    created.ensure(1);
    created.merge(0, &mut &bytes[..]).unwrap();
    assert_eq!(encoded(&*created, 0), bytes);
    assert!(tally.add(0, i64::MAX).and_then(|()| tally.add(0, 1)).is_err());
}

#[test]
fn calls_that_mean_nothing_are_refused() {
    for (function, data_type) in [
        (Function::Sum, DataType::String),
        (Function::Mean, DataType::Date),
        (Function::Min, list_type()),
        (Function::Sum, DataType::Boolean),
    ] {
        assert_eq!(create(&call(function, &data_type)).err().unwrap().kind(), ErrorKind::Plan, "{function:?} {data_type}");
    }
    let wrong = AggregateCall { output_type: DataType::Int32, ..call(Function::Sum, &DataType::Int32) };
    assert_eq!(create(&wrong).err().unwrap().kind(), ErrorKind::Internal);
    let mut accumulator = accumulator(Function::Sum, &DataType::Int64);
    accumulator.ensure(1);
    let order = RowOrder { event_time: &[0], partition: 0, offsets: &[0] };
    let other: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let longer: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    for input in [None, Some(&other), Some(&longer)] {
        assert_eq!(accumulator.update(&[0], input, None, &order).unwrap_err().kind(), ErrorKind::Internal);
    }
}

#[test]
fn memory_follows_values_and_resets() {
    for (function, data_type) in calls() {
        let mut accumulator = accumulator(function, &data_type);
        accumulator.ensure(100);
        let empty = accumulator.memory();
        assert!(empty >= 800, "{function:?}");
        update(&mut *accumulator, &column(&data_type, &[Some(-20), Some(20), Some(5), Some(-5)]), None);
        accumulator.reset(0);
        let fresh = super::accumulator(function, &data_type);
        assert!(accumulator.memory() < empty + 1000, "{function:?} {data_type}");
        let mut fresh = fresh;
        fresh.ensure(1);
        assert_eq!(encoded(&*accumulator, 0), encoded(&*fresh, 0));
    }
}

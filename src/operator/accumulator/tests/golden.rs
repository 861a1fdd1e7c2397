//! Format version 1, byte for byte. A change here is a new format: never edit the expectations.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(function: Function, data_type: &DataType, id: u8, numbers: &[Option<i64>], expected: &str) {
    check_call(&call(function, data_type), data_type, id, numbers, expected);
}

fn check_call(call: &AggregateCall, data_type: &DataType, id: u8, numbers: &[Option<i64>], expected: &str) {
    let mut accumulator = create(call).unwrap();
    update(&mut *accumulator, &column(data_type, numbers), None);
    assert_eq!(accumulator.encoding_id(), id);
    assert_eq!(hex(&encoded(&*accumulator, 0)), expected, "{call:?}, {numbers:?}");
}

#[test]
fn states() {
    use DataType as T;
    use Function as F;
    let some = [Some(3), None, Some(-2)];
    check(F::Len, &T::Int32, 1, &some, "0300000000000000");
    check(F::Count, &T::Int32, 1, &some, "0200000000000000");
    check(F::Sum, &T::Int32, 2, &some, "020101");
    check(F::Sum, &T::Int32, 2, &[None], "0000");
    check(F::Mean, &T::Int32, 2, &[Some(-300)], "0102d4fe");
    check(F::Sum, &decimal_type(), 2, &[Some(-1)], "011000000000f060b44ceaf8368431683fff");
    check(F::Sum, &T::Float64, 3, &[None], "0000");
    check(F::Sum, &T::Float64, 3, &[Some(0)], "00010000");
    check(F::Sum, &T::Float64, 3, &[Some(19), Some(-20)], "05020000");
    check(F::Mean, &T::Float64, 3, &[Some(-1)], "08011f0300002d431cebe2361a000000");
    check(F::Min, &T::Int32, 4, &some, "01feffffff");
    check(F::Max, &T::Int32, 4, &[None], "00");
    check(F::Max, &T::Boolean, 4, &some, "0101000000");
    check(F::Max, &T::Timestamp(TimeUnit::Microsecond), 4, &some, "010300000000000000");
    check(F::Min, &T::Float64, 4, &[Some(-19)], "010000000000000000");
    check(F::Min, &T::Float64, 4, &[Some(18)], "01000000000000f87f");
    check(F::Max, &decimal_type(), 4, &[Some(0)], "0100000000000000000000000000000000");
    check(F::Max, &T::String, 5, &some, "0103c3a930");
    check(F::Min, &T::Binary, 5, &[None], "00");
    check(F::First, &T::Int32, 6, &some, "010000000000000000000000000000000000000000050180000003");
    check(F::Last, &T::String, 6, &[Some(1), None], "0101000000000000000000000001000000000000000100");
    check(F::First, &list_type(), 6, &[], "00");
}

#[test]
fn states_that_are_taken_back() {
    use DataType as T;
    use Function as F;
    let check = |function, data_type: &DataType, id, numbers: &[Option<i64>], expected| {
        let call = AggregateCall { retracts: true, ..call(function, data_type) };
        check_call(&call, data_type, id, numbers, expected);
    };
    check(F::Len, &T::Int32, 1, &[Some(3), None], "0200000000000000");
    check(F::Mean, &T::Int32, 2, &[Some(-300)], "0102d4fe");
    check(F::Sum, &T::Float64, 7, &[None], "00");
    check(F::Sum, &T::Float64, 7, &[Some(0)], "01000000000000");
    check(F::Sum, &T::Float64, 7, &[Some(19), Some(-20), Some(18), Some(20)], "04020101000000");
    check(F::Mean, &T::Float64, 7, &[Some(-1)], "01000000011f0300002d431cebe2361a000000");
}

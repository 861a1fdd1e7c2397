use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    StructArray, TimestampMillisecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::plan::schema::{Field, TimeUnit};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rows<'a>(bytes: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let starts = std::iter::once(&0).chain(ends);
    starts.zip(ends).map(|(&start, &end)| &bytes[start..end]).collect()
}

fn keys(types: &[DataType], columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    let (mut out, mut ends) = (vec![9; 3], vec![7]);
    KeyEncoder::new(types).unwrap().encode(columns, &mut out, &mut ends).unwrap();
    rows(&out, &ends).into_iter().map(<[u8]>::to_vec).collect()
}

fn decimal(values: Vec<Option<i128>>) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
}

fn utc(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
}

fn struct_type() -> DataType {
    DataType::Struct(vec![Field::new("s", DataType::String), Field::new("n", DataType::Int32)])
}

fn structs(values: Vec<Option<(Option<&str>, Option<i32>)>>) -> ArrayRef {
    let valid: Vec<bool> = values.iter().map(Option::is_some).collect();
    let texts: StringArray = values.iter().map(|value| value.and_then(|value| value.0)).collect();
    let numbers: Int32Array = values.iter().map(|value| value.and_then(|value| value.1)).collect();
    let arrow::datatypes::DataType::Struct(fields) = struct_type().to_arrow() else { panic!() };
    Arc::new(StructArray::new(fields, vec![Arc::new(texts), Arc::new(numbers)], Some(valid.into())))
}

/// Format version 1, byte for byte. A change here is a new format: never edit the expectations.
#[test]
fn golden_keys() {
    let d = DataType::Decimal { precision: 38, scale: 2 };
    let cases: Vec<(DataType, ArrayRef, &[&str])> = vec![
        (DataType::Boolean, Arc::new(BooleanArray::from(vec![None, Some(false), Some(true)])), &["00", "0100", "0101"]),
        (DataType::Int32, Arc::new(Int32Array::from(vec![Some(-1), None])), &["017fffffff", "00"]),
        (DataType::Date, Arc::new(Date32Array::from(vec![20_568])), &["0180005058"]),
        (DataType::Int64, Arc::new(Int64Array::from(vec![i64::MIN, 1])), &["010000000000000000", "018000000000000001"]),
        (DataType::Timestamp(TimeUnit::Millisecond), utc(vec![Some(1_777_000_000_000)]), &["018000019dbd742a00"]),
        (d, decimal(vec![Some(-2)]), &["017ffffffffffffffffffffffffffffffe"]),
        (DataType::String, Arc::new(StringArray::from(vec![Some(""), Some("a\0b"), None])), &["01", "01610062", "00"]),
        (DataType::Binary, Arc::new(BinaryArray::from(vec![&[0u8, 255][..]])), &["0100ff"]),
        (
            struct_type(),
            structs(vec![Some((Some("x"), Some(1))), Some((None, None)), None]),
            &["01017800000180000001", "010000", "00"],
        ),
    ];
    for (data_type, column, expected) in cases {
        let encoded: Vec<_> = keys(std::slice::from_ref(&data_type), &[column]).iter().map(|key| hex(key)).collect();
        assert_eq!(encoded, expected, "{data_type}");
    }
    let two = keys(
        &[DataType::String, DataType::String],
        &[Arc::new(StringArray::from(vec!["a\0"])), Arc::new(StringArray::from(vec!["b\0"]))],
    );
    assert_eq!(hex(&two[0]), "016100ff0000016200");
}

#[test]
fn golden_hashes() {
    // The reference implementation's own test vector: this is xxh3-64.
    assert_eq!(xxh3_64_with_seed(b"", 0), 0x2d06_8005_38d3_94c2);
    assert_eq!(key_hash(b""), 6_400_748_307_771_937_774);
    assert_eq!(key_hash(b"\x01merchant-17"), 16_618_853_905_347_390_326);
    assert_eq!(key_group(u64::MAX), KeyGroup(1023));
    assert_eq!(key_group(0x0000_0401_ffff_ffff), KeyGroup(1));
}

#[test]
fn golden_values() {
    let list = DataType::List(Box::new(DataType::Float64));
    let mut builder = arrow::array::ListBuilder::new(arrow::array::Float64Builder::new())
        .with_field(arrow::datatypes::Field::new("element", arrow::datatypes::DataType::Float64, true));
    builder.append_value([Some(1.5), None]);
    builder.append_value([]);
    builder.append_null();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    let lists: ArrayRef = Arc::new(builder.finish());
    ValueEncoder::new(&list).encode(&lists, &mut out, &mut ends).unwrap();
    let encoded: Vec<_> = rows(&out, &ends).into_iter().map(hex).collect();
    assert_eq!(encoded, ["010101bff8000000000000010000", "0100", "00"]);
    assert_eq!(ValueEncoder::new(&list).decode(&rows(&out, &ends)).unwrap().as_ref(), lists.as_ref());
}

#[test]
fn floats_are_one_value_where_they_are_equal_and_ordered() {
    let other_nan = f64::from_bits(0xfff8_0000_0000_0123);
    let column: ArrayRef =
        Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, -1.0, -0.0, 0.0, 5e-324, f64::INFINITY, f64::NAN, other_nan]));
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    ValueEncoder::new(&DataType::Float64).encode(&column, &mut out, &mut ends).unwrap();
    let values = rows(&out, &ends);
    let orders: Vec<_> = values.windows(2).map(|pair| pair[0].cmp(pair[1])).collect();
    use Ordering::{Equal, Less};
    assert_eq!(orders, [Less, Less, Equal, Less, Less, Less, Equal]);
    assert_eq!(hex(values[3]), "018000000000000000");
    assert_eq!(hex(values[6]), "01fff8000000000000");

    ValueEncoder::lossless(&DataType::Float64).encode(&column, &mut out, &mut ends).unwrap();
    let back = ValueEncoder::lossless(&DataType::Float64).decode(&rows(&out, &ends)).unwrap();
    let bits = |array: &ArrayRef| -> Vec<u64> {
        array.as_any().downcast_ref::<Float64Array>().unwrap().values().iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(&back), bits(&column));
}

#[test]
fn keys_refuse_floats_and_other_columns() {
    for data_type in [
        DataType::Float64,
        DataType::List(Box::new(DataType::Float64)),
        DataType::Struct(vec![Field::new("x", DataType::Float64)]),
    ] {
        assert_eq!(KeyEncoder::new(&[data_type]).unwrap_err().kind(), ErrorKind::Plan);
    }
    let encoder = KeyEncoder::new(&[DataType::String]).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let error = encoder.encode(&[column], &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn sliced_columns_are_encoded_from_their_own_rows() {
    let types = [DataType::String, DataType::Boolean, struct_type(), DataType::Int64];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("a\0"), None, Some("c"), Some("")])),
        Arc::new(BooleanArray::from(vec![None, Some(true), Some(false), None])),
        structs(vec![None, Some((Some("x"), None)), None, Some((None, Some(4)))]),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
    ];
    let all = keys(&types, &columns);
    let sliced: Vec<ArrayRef> = columns.iter().map(|column| column.slice(1, 3)).collect();
    assert_eq!(keys(&types, &sliced), all[1..]);
    assert_eq!(keys(&types[1..2], &[columns[1].slice(2, 2)]), keys(&types[1..2], &columns[1..2])[2..]);
}

type Row = (Option<String>, Option<i64>, Option<Vec<u8>>, Option<bool>, Option<i128>, Option<(Option<String>, Option<i32>)>);

fn any_row() -> impl Strategy<Value = Row> {
    let text = || proptest::option::of("[\\x00\\x01a\u{ff}é]{0,3}");
    (
        text(),
        proptest::option::of(prop_oneof![-2i64..3, any::<i64>()]),
        proptest::option::of(proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..3)),
        any::<Option<bool>>(),
        proptest::option::of(prop_oneof![-2i128..3, any::<i128>()]),
        proptest::option::of((text(), proptest::option::of(-1..2i32))),
    )
}

fn types() -> [DataType; 6] {
    let decimal = DataType::Decimal { precision: 38, scale: 2 };
    [DataType::String, DataType::Int64, DataType::Binary, DataType::Boolean, decimal, struct_type()]
}

fn columns(rows: &[Row]) -> [ArrayRef; 6] {
    [
        Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2.as_deref()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>()),
        decimal(rows.iter().map(|row| row.4).collect()),
        structs(rows.iter().map(|row| row.5.as_ref().map(|value| (value.0.as_deref(), value.1))).collect()),
    ]
}

proptest! {
    /// The key's bytes compare as the rows do (so different keys differ), and the columns come back.
    #[test]
    fn keys_are_ordered_and_come_back(mut data in proptest::collection::vec(any_row(), 1..20), from in 0usize..6, length in 1usize..7) {
        let to = (from + length).min(6);
        let (types, columns) = (&types()[from..to], &columns(&data)[from..to]);
        let encoded = keys(types, columns);
        let compare = |a: &Row, b: &Row| {
            let orders = [a.0.cmp(&b.0), a.1.cmp(&b.1), a.2.cmp(&b.2), a.3.cmp(&b.3), a.4.cmp(&b.4), a.5.cmp(&b.5)];
            orders[from..to].iter().copied().find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
        };
        for (a, key_a) in data.iter().zip(&encoded) {
            for (b, key_b) in data.iter().zip(&encoded) {
                prop_assert_eq!(compare(a, b), key_a.cmp(key_b), "{:?} {:?}", a, b);
            }
        }
        let references: Vec<_> = encoded.iter().map(Vec::as_slice).collect();
        let back = KeyEncoder::new(types).unwrap().decode(&references).unwrap();
        for (column, back) in columns.iter().zip(&back) {
            prop_assert_eq!(column.as_ref(), back.as_ref());
        }
        data.clear();
    }

    /// Whatever is on the disk: an answer or a corruption error.
    #[test]
    fn damaged_keys_are_found_or_read(data in proptest::collection::vec(any_row(), 1..4), at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
        let types = types();
        let encoder = KeyEncoder::new(&types).unwrap();
        for mut key in keys(&types, &columns(&data)) {
            let at = at % key.len();
            if cut { key.truncate(at) } else { key[at] = byte }
            match encoder.decode(&[&key]) {
                // Every key has one form: what can be read is written again as it was.
                Ok(back) => prop_assert_eq!(&keys(&types, &back)[0], &key),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corruption),
            }
        }
    }

    #[test]
    fn any_bytes_are_found_or_read(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..40)) {
        let encoder = KeyEncoder::new(&types()).unwrap();
        if let Err(error) = encoder.decode(&[&bytes]) {
            prop_assert_eq!(error.kind(), ErrorKind::Corruption);
        }
        for data_type in types().into_iter().chain([DataType::List(Box::new(struct_type()))]) {
            if let Err(error) = ValueEncoder::new(&data_type).decode(&[&bytes]) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
    }
}

#[test]
fn groups_are_even() {
    let mut rows = vec![0u32; usize::from(KEY_GROUPS)];
    for key in 0..102_400u32 {
        rows[usize::from(key_group(key_hash(&key.to_be_bytes())).0)] += 1;
    }
    assert!(rows.iter().all(|&rows| (50..=160).contains(&rows)), "{:?} {:?}", rows.iter().min(), rows.iter().max());
}

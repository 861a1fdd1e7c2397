use crate::error::{Error, Result};
use crate::plan::{expr::{Expr, Function}, schema::{DataType, Schema}, time_zones::ZoneTables};
use arrow::array::*;
use std::sync::Arc;
pub struct Evaluator { expr: Expr, zones: ZoneTables }
impl Evaluator {
    pub fn compile(e: &Expr, _: &Schema, z: &ZoneTables) -> Result<Self> { Ok(Self { expr: e.clone(), zones: z.clone() }) }
    pub fn evaluate(&self, b: &RecordBatch) -> Result<ArrayRef> { self.ev(&self.expr, b) }
    pub fn filter_mask(&self, b: &RecordBatch) -> Result<BooleanArray> {
        let a = self.evaluate(b)?; let a = a.as_boolean();
        Ok(match a.nulls() { None => a.clone(), Some(n) => BooleanArray::new(a.values() & n.inner(), None) })
    }
    fn ev(&self, e: &Expr, b: &RecordBatch) -> Result<ArrayRef> {
        match e {
            Expr::Column(n) => Ok(b.column_by_name(n).ok_or_else(|| Error::internal("col"))?.clone()),
            Expr::Literal(l) => Ok(match &l.data_type { Some(DataType::Int64) => Arc::new(Int64Array::from(vec![l.value.as_i64().unwrap(); b.num_rows()])), _ => Arc::new(StringArray::from(vec![l.value.as_str().unwrap(); b.num_rows()])) }),
            Expr::Call { function, args } => {
                let a: Vec<ArrayRef> = args.iter().map(|x| self.ev(x, b)).collect::<Result<_>>()?;
                use arrow::compute::kernels::cmp;
                Ok(match function {
                    Function::Eq => Arc::new(cmp::eq(&a[0], &a[1])?), Function::Gt => Arc::new(cmp::gt(&a[0], &a[1])?),
                    Function::And => Arc::new(arrow::compute::and_kleene(a[0].as_boolean(), a[1].as_boolean())?),
                    Function::DtDate { time_zone } => {
                        let z = self.zones.get(time_zone)?;
                        Arc::new(a[0].as_primitive::<arrow::datatypes::TimestampMillisecondType>().unary::<_, arrow::datatypes::Date32Type>(|t| { let s = t.div_euclid(1000); (s + i64::from(z.offset(s))).div_euclid(86400) as i32 }))
                    }
                    _ => return Err(Error::internal("fn")) })
            }
            _ => Err(Error::internal("e")),
        }
    }
}

//! What is done to versions as a whole, one verb a file: [`plan`] says what a reprocess would do, [`status`] what there is.

pub mod plan;
pub mod status;

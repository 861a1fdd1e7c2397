//! The replay certificate: a plan was run twice over the same records, and both runs gave the same rows, or not. Facts in, decision
//! out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::time::format_utc;

/// What a table holds, whatever the order of its rows and the files that they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes, 32 hexadecimal digits. Comparable within one release.
    pub hash: String,
}

/// How one of the runs was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedRun {
    /// Worker threads.
    pub parallelism: usize,
    /// How often its process was killed before its end.
    pub kills: u32,
    /// Its checkpoints.
    pub checkpoints: u64,
    /// By output, what its tables hold.
    pub contents: BTreeMap<String, Content>,
}

/// Two runs of one plan over the same records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// Of this document.
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// Of the plan.
    pub fingerprint: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub made_ms: i64,
    /// Records of an earlier event time were left out, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// By topic and partition, from where to where was read.
    pub vectors: BTreeMap<String, BTreeMap<i32, (i64, i64)>>,
    /// The runs.
    pub runs: [CertifiedRun; 2],
    /// Where they part, in words; nothing if they do not.
    pub parted: Vec<String>,
}

impl Certificate {
    /// Whether both runs gave the same rows.
    pub fn is_passed(&self) -> bool {
        let [first, second] = &self.runs;
        // One that says of no output what it holds shows nothing.
        !first.contents.is_empty() && first.contents == second.contents
    }

    /// Whether a new version of its plan may be made.
    ///
    /// # Errors
    /// `Refused` where it failed.
    pub fn check(&self) -> Result<()> {
        if self.is_passed() {
            return Ok(());
        }
        let when = format_utc(self.made_ms.div_euclid(1000).saturating_mul(1000));
        let [first, second] = &self.runs;
        let why = if first.contents == second.contents { "did not show their rows" } else { "gave other rows" };
        let message = format!("two runs of this plan over the same records {why}: it failed its replay certificate at {when}");
        let error = Error::refused("not_certified", message).with("fingerprint", &self.fingerprint);
        let error = self.parted.first().map_or(error.clone(), |parted| error.with("for_example", parted));
        Err(error.hint(
            "its results depend on more than the log: report this; a later --preview --certify that passes lifts it, and so does --force",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(contents: &[(&str, u64, &str)]) -> CertifiedRun {
        let content = |(output, rows, hash): &(&str, u64, &str)| {
            ((*output).to_owned(), Content { rows: *rows, hash: (*hash).to_owned() })
        };
        CertifiedRun { contents: contents.iter().map(content).collect(), ..CertifiedRun::default() }
    }

    #[test]
    fn what_two_runs_have_in_common_is_the_rows_of_every_output() {
        let same = [("", 2, "ab"), ("other", 0, "00")];
        for (second, passes) in [
            (run(&same), true),
            (CertifiedRun { parallelism: 7, kills: 1, ..run(&same) }, true),
            (run(&[("", 2, "ab"), ("other", 0, "01")]), false),
            (run(&[("", 3, "ab"), ("other", 0, "00")]), false),
            (run(&same[..1]), false),
            (run(&[]), false),
        ] {
            let certificate = Certificate { runs: [run(&same), second], ..Certificate::default() };
            assert_eq!(certificate.is_passed(), passes);
            assert_eq!(certificate.check().is_ok(), passes);
        }
    }

    #[test]
    fn a_certificate_without_runs_is_none_that_passed() {
        let certificate: Certificate = serde_json::from_str(r#"{"format": 1}"#).unwrap();
        assert!(!certificate.is_passed());
        let error = certificate.check().unwrap_err();
        assert!(error.to_string().contains("did not show their rows"), "{error}");
    }

    #[test]
    fn a_refusal_says_where_they_part() {
        let certificate = Certificate {
            made_ms: 1_500,
            runs: [run(&[("", 1, "a")]), run(&[("", 1, "b")])],
            parted: vec!["changed day=2026-03-01: n 1 → 2".to_owned()],
            ..Certificate::default()
        };
        let error = certificate.check().unwrap_err();
        assert_eq!(error.code(), "not_certified");
        assert!(error.to_string().contains("at 1970-01-01T00:00:01Z") && error.to_string().contains("n 1 → 2"), "{error}");
        assert!(error.hint_text().unwrap().contains("--force"));
    }
}

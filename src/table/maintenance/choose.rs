//! Which files of a table are worth rewriting: a pure decision.
//!
//! Files are merged by size tiers, as in a log-structured merge tree (O'Neil et al. 1996): so many of about one size become
//! one of the next. A row is rewritten once for each tier, whatever the number of commits, and a table of n bytes has
//! O(log n) files below the size at which files are left alone.

use serde::{Deserialize, Serialize};

use crate::table::live::Weight;
use crate::table::tiers::Tiers;

/// When files are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Live bytes at which a file is large enough to be left alone.
    pub target: u64,
    /// Files below this many live bytes are of the lowest tier. Each tier is `fan_in` times the one below.
    pub smallest: u64,
    /// So many files of a tier are merged.
    pub fan_in: usize,
    /// A file with a greater share of deleted rows is rewritten whatever its size.
    pub deleted_share: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { target: 128 << 20, smallest: 16 << 10, fan_in: 8, deleted_share: 0.3 }
    }
}

/// The files to be rewritten into one, by their places in `files`; none if the table is well as it is.
pub(super) fn choose(files: &[Weight], policy: &Policy) -> Vec<usize> {
    let mut small: Vec<usize> = (0..files.len()).filter(|at| files[*at].live_bytes() < policy.target).collect();
    small.sort_by_key(|at| files[*at].live_bytes());
    let tiers = Tiers::new(policy.smallest, policy.fan_in);
    let tier = |at: &usize| tiers.of(files[*at].live_bytes());
    if let Some(full) = tiers.full(small.iter().map(|at| files[*at].live_bytes())) {
        let chosen = up_to(small.iter().copied().filter(|at| tier(at) <= full), files, policy.target);
        // Else a large file would be rewritten again and again for the sake of the small ones.
        if chosen.iter().filter(|at| tier(at) == full).count() > 1 {
            return chosen;
        }
    }
    let worst = (0..files.len()).max_by(|a, b| files[*a].deleted_share().total_cmp(&files[*b].deleted_share()));
    worst.filter(|at| files[*at].deleted_share() > policy.deleted_share).into_iter().collect()
}

/// As many of the smallest as are at most `limit` bytes together.
fn up_to(rising: impl Iterator<Item = usize>, files: &[Weight], limit: u64) -> Vec<usize> {
    let mut sum = 0_u64;
    let fits = |at: &usize| {
        sum = sum.saturating_add(files[*at].live_bytes());
        sum <= limit
    };
    rising.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { target: 10_000, smallest: 10, fan_in: 4, deleted_share: 0.3 };

    fn whole(bytes: u64) -> Weight {
        Weight { bytes, rows: bytes, deleted: 0 }
    }

    #[test]
    fn nothing_to_do_is_nothing() {
        assert!(choose(&[], &POLICY).is_empty());
        assert!(choose(&[whole(5), whole(5), whole(5), whole(20_000)], &POLICY).is_empty());
    }

    #[test]
    fn a_full_tier_takes_smaller_files_along() {
        // 10 to 39 bytes are a tier; of the one below there are too few.
        let files = [whole(5), whole(30), whole(11), whole(39), whole(12), whole(45)];
        let mut chosen = choose(&files, &POLICY);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_result_is_at_most_a_large_file() {
        let files = [whole(4000), whole(4000), whole(4000), whole(4000)];
        assert_eq!(choose(&files, &POLICY).len(), 2);
        assert!(choose(&[whole(9000), whole(9000), whole(9000), whole(9000)], &POLICY).is_empty());
    }

    #[test]
    fn a_file_of_deleted_rows_is_rewritten_whatever_its_size() {
        let half = Weight { bytes: 90_000, rows: 100, deleted: 50 };
        let few = Weight { bytes: 90_000, rows: 100, deleted: 30 };
        assert_eq!(choose(&[few, half, few], &POLICY), [1]);
        assert!(choose(&[few, few], &POLICY).is_empty());
    }

    /// Commits of one byte each: the number of files stays small, and so does what is rewritten.
    #[test]
    fn a_long_run_has_few_files_and_rewrites_little() {
        let (mut files, mut rewritten, mut most) = (Vec::new(), 0, 0);
        for _ in 0..50_000 {
            files.push(whole(1));
            loop {
                let chosen = choose(&files, &POLICY);
                if chosen.is_empty() {
                    break;
                }
                let bytes: u64 = chosen.iter().map(|at| files[*at].bytes).sum();
                rewritten += bytes;
                let mut at = 0;
                files.retain(|_| {
                    at += 1;
                    !chosen.contains(&(at - 1))
                });
                files.push(whole(bytes));
            }
            most = most.max(files.iter().filter(|file| file.bytes < POLICY.target).count());
        }
        assert!(most <= 4 * 6, "{most} files");
        assert!(rewritten <= 50_000 * 9, "{rewritten} bytes, {most} files");
        assert_eq!(files.iter().map(|file| file.bytes).sum::<u64>(), 50_000);
    }
}

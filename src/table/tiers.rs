//! Tiers of sizes: files are merged as in a log-structured merge tree (O'Neil et al. 1996), so many of about one size into one of
//! the next. What is in them is written once for each tier, whatever the number of commits.

/// The tiers.
pub(super) struct Tiers {
    smallest: u64,
    fan_in: usize,
}

impl Tiers {
    /// Sizes below `smallest` are of the lowest tier; each is `fan_in` times the one below.
    pub(super) fn new(smallest: u64, fan_in: usize) -> Self {
        Self { smallest: smallest.max(1), fan_in: fan_in.max(2) }
    }

    /// The tier of a size.
    pub(super) fn of(&self, size: u64) -> usize {
        let limits = std::iter::successors(Some(self.smallest), |limit| limit.checked_mul(self.fan_in as u64));
        limits.take_while(|limit| size >= *limit).count()
    }

    /// The lowest tier that has so many of these sizes that they are worth merging.
    pub(super) fn full(&self, sizes: impl Iterator<Item = u64>) -> Option<usize> {
        let mut counts: Vec<usize> = Vec::new();
        for tier in sizes.map(|size| self.of(size)) {
            counts.resize(counts.len().max(tier + 1), 0);
            counts[tier] += 1;
        }
        counts.iter().position(|count| *count >= self.fan_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_tier_that_is_full_is_found_and_sizes_have_no_end() {
        let tiers = Tiers::new(10, 4);
        assert_eq!([0, 9, 10, 39, 40, 160, u64::MAX].map(|size| tiers.of(size)), [0, 0, 1, 1, 2, 3, 31]);
        assert_eq!(tiers.full([1, 1, 1].into_iter()), None);
        assert_eq!(tiers.full([1, 1, 1, 12, 12, 39, 10, 50].into_iter()), Some(1));
    }
}

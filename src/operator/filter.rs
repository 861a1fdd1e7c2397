//! Whether a value was ever seen, at ten bits a value: "no" is certain, "yes" is wrong a few times in a hundred.
//!
//! A split-block Bloom filter (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007), as Parquet
//! defines it. One that is full is followed by a larger one.

/// Eight words, in each of which one bit of a value is set: a look costs one line of the processor's cache.
type Block = [u32; 8];

const SALTS: Block = [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
const BITS_A_VALUE: usize = 10;
const FIRST: usize = 16 << 10;
const LARGEST: usize = 64 << 20;

/// The values that were seen.
#[derive(Default)]
pub struct SeenFilter {
    parts: Vec<Part>,
}

struct Part {
    blocks: Vec<Block>,
    room: usize,
}

impl SeenFilter {
    /// Notes the value with this hash.
    pub fn insert(&mut self, hash: u64) {
        if self.parts.last().is_none_or(|part| part.room == 0) {
            let bytes = self.parts.last().map_or(FIRST, |part| (2 * size_of_val(&part.blocks[..])).min(LARGEST));
            self.parts
                .push(Part { blocks: vec![Block::default(); bytes / size_of::<Block>()], room: bytes * 8 / BITS_A_VALUE });
        }
        if let Some(part) = self.parts.last_mut() {
            part.room -= 1;
            let place = place(hash, part.blocks.len());
            part.blocks[place].iter_mut().zip(mask(hash)).for_each(|(word, bit)| *word |= bit);
        }
    }

    /// Whether the value with this hash may have been seen.
    pub fn may_hold(&self, hash: u64) -> bool {
        let mask = mask(hash);
        let holds = |part: &Part| {
            let block = &part.blocks[place(hash, part.blocks.len())];
            block.iter().zip(&mask).all(|(word, bit)| word & bit != 0)
        };
        // The last are the largest.
        self.parts.iter().rev().any(holds)
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.parts.iter().map(|part| size_of_val(&part.blocks[..])).sum()
    }
}

fn place(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

fn mask(hash: u64) -> Block {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::encoding::key_hash;

    #[test]
    fn what_was_seen_is_never_denied_and_what_was_not_is_seldom_confirmed() {
        let hash = |number: u32| key_hash(&number.to_le_bytes());
        let mut filter = SeenFilter::default();
        assert!(!filter.may_hold(hash(1)));
        (0..200_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..200_000).all(|number| filter.may_hold(hash(number))));
        let wrong = (200_000..400_000).filter(|number| filter.may_hold(hash(*number))).count();
        assert!(wrong < 16_000, "{wrong}");
        assert!(filter.memory() < 200_000 * 3 * BITS_A_VALUE / 8, "{}", filter.memory());
    }
}

//! Which of the manifests that lie there are those of the version's one chain.

use std::cmp::Ordering;

/// What a manifest says about its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub checkpoint: u64,
    /// Who published it.
    pub owner: u64,
    /// It only says who owns the version.
    pub claim: bool,
    /// Its hash.
    pub hash: String,
    /// The hash of the one before.
    pub previous: String,
}

/// What to do with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is of the chain: what it lists is delivered.
    Chain,
    /// It is not, for all that its number and those around it say: it is not delivered.
    Stray,
    /// It is not, unless some between were lost that nobody delivered: [`is_whole`] says whether that is so.
    Unclear,
}

/// The place of each of the manifests, by rising number, and the first of the chain. The newest decides: each goes on from the
/// one before it.
///
/// Old ones are removed from the oldest on, once they are delivered, and so a chain has a beginning but no holes. Below the
/// beginning lies what a process published that had been taken over long before, under a number that was free again, and that
/// was gone before it could look behind itself. Nobody went on from that, and what it lists was read again by others. Nothing
/// else looks like this but a chain out of which manifests were taken by hand.
pub fn places(manifests: &[Link]) -> (Vec<Place>, Option<&Link>) {
    let follows = |pair: &[Link]| pair[1].checkpoint == pair[0].checkpoint + 1 && pair[1].previous == pair[0].hash;
    let begins = manifests.windows(2).rposition(|pair| !follows(pair)).map_or(0, |before| before + 1);
    let Some(first) = manifests.get(begins) else { return (Vec::new(), None) };
    let place = |(at, link): (usize, &Link)| if at >= begins { Place::Chain } else { place_below(link, first) };
    (manifests.iter().enumerate().map(place).collect(), Some(first))
}

/// Each claim takes a number and raises the owner by one. So between a manifest and a later one of its chain lie at least as
/// many numbers as owners; and if it is as many, all of them are claims, which repeat it. Manifests are removed from the oldest
/// on, so claims in between that are gone speak for a stray that looks like one of the chain; the tables know.
fn place_below(link: &Link, first: &Link) -> Place {
    let (numbers, owners) = (first.checkpoint - link.checkpoint, first.owner.saturating_sub(link.owner));
    match numbers.cmp(&owners) {
        // The next one says what it goes on from.
        _ if numbers == 1 && first.claim => Place::Stray,
        Ordering::Less => Place::Stray,
        Ordering::Equal if !first.claim => Place::Stray,
        Ordering::Equal | Ordering::Greater => Place::Unclear,
    }
}

/// Whether a table or topic has everything before the first manifest of a chain. `delivered`: the newest checkpoint that it is
/// known to have, and who published that. Each that is no claim gets into the tables, and before the next; into a topic those
/// with records for it.
pub fn is_whole(first: &Link, delivered: (u64, u64)) -> bool {
    let (checkpoint, owner) = delivered;
    let only_claims = || first.checkpoint - checkpoint == first.owner.saturating_sub(owner);
    checkpoint >= first.checkpoint || first.claim && only_claims()
}

#[cfg(test)]
mod tests {
    use super::Place::{Chain, Stray, Unclear};
    use super::*;

    fn link(checkpoint: u64, owner: u64, claim: bool) -> Link {
        let hash = |checkpoint: u64| format!("{checkpoint} of {owner}");
        Link { checkpoint, owner, claim, hash: hash(checkpoint), previous: hash(checkpoint.wrapping_sub(1)) }
    }

    /// Each goes on from the one before it, whoever that is of.
    fn chained(mut manifests: Vec<Link>) -> Vec<Link> {
        for at in 1..manifests.len() {
            manifests[at].previous = manifests[at - 1].hash.clone();
        }
        manifests
    }

    fn placed(manifests: &[Link]) -> Vec<Place> {
        places(manifests).0
    }

    #[test]
    fn a_chain_is_delivered_wherever_it_begins() {
        assert_eq!(placed(&[]), []);
        let whole = chained(vec![link(0, 1, false), link(1, 1, false), link(2, 2, true), link(3, 2, false)]);
        for begins in 0..whole.len() {
            let (places, first) = places(&whole[begins..]);
            assert_eq!((places, first), (vec![Chain; whole.len() - begins], Some(&whole[begins])));
        }
    }

    #[test]
    fn what_came_under_a_number_of_the_past_is_not_of_it() {
        // 11 was a claim that is gone; of owner 1 this 11 is.
        let claims = chained(vec![link(12, 3, true), link(13, 4, true)]);
        let with = |stray: Link| [vec![stray], claims.clone()].concat();
        assert_eq!(placed(&with(link(11, 1, false))), [Stray, Chain, Chain]);
        // 12 says that it repeats another.
        assert_eq!(placed(&with(Link { hash: "x".into(), ..link(11, 2, false) })), [Stray, Chain, Chain]);
        assert_eq!(placed(&[vec![link(11, 1, false)], with(link(11, 1, false))].concat()), [Stray, Stray, Chain, Chain]);
    }

    #[test]
    fn where_one_between_may_have_been_lost_it_is_said_and_claims_between_hold_nothing() {
        let chain = chained(vec![link(12, 1, false), link(13, 2, true)]);
        let with = |below: Link| [vec![below], chain.clone()].concat();
        assert_eq!(placed(&with(link(10, 1, false))), [Unclear, Chain, Chain]);
        assert_eq!(placed(&with(Link { hash: "x".into(), ..link(11, 1, false) })), [Unclear, Chain, Chain]);
        let claims = chained(vec![link(12, 3, true), link(13, 3, false)]);
        assert_eq!(placed(&[vec![link(10, 1, false)], claims.clone()].concat()), [Unclear, Chain, Chain]);
        assert_eq!(placed(&[vec![link(9, 1, false)], claims].concat()), [Unclear, Chain, Chain]);
    }

    /// Owner 1 hung in its publication of 11. Owner 2 claimed 11, published 12 and was followed by 3 and 4; 11 was delivered and
    /// removed, then owner 1 woke up.
    #[test]
    fn one_that_came_where_a_delivered_claim_was_is_not_of_the_chain() {
        let stray = link(11, 1, false);
        let chain = chained(vec![link(12, 2, false), link(13, 3, true), link(14, 4, true)]);
        assert_eq!(placed(&[vec![stray.clone()], chain.clone()].concat()), [Stray, Chain, Chain, Chain]);
        assert_eq!(placed(&[vec![stray], chain[1..].to_vec()].concat()), [Unclear, Chain, Chain]);
        // What the tables have tells that nothing is lacking.
        assert!(is_whole(&chain[1], (12, 2)));
    }

    #[test]
    fn a_table_tells_whether_anything_is_lacking_before_a_chain() {
        let rows = link(12, 3, false);
        assert_eq!([11, 12, 15].map(|delivered| is_whole(&rows, (delivered, 3))), [false, true, true]);
        // 10, and then the claims of owners 2 and 3; or 11, and then that of owner 3.
        let claim = link(12, 3, true);
        let delivered = [(9, 1), (10, 1), (10, 2), (11, 2), (13, 3)];
        assert_eq!(delivered.map(|delivered| is_whole(&claim, delivered)), [false, true, false, true, true]);
    }
}

//! Names of topics.

use crate::error::{Error, Result};

/// Refuses what cannot be the name of a topic: the rule is Kafka's.
pub fn check(name: &str) -> Result<()> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(is_legal) && name != "." && name != ".." {
        return Ok(());
    }
    Err(Error::config("log.topic_name", format!("{name:?} cannot be the name of a topic"))
        .hint("a name has 1 to 249 letters, digits, points, underscores and hyphens, and is neither . nor .."))
}

/// The names most like `name`, at most three.
pub fn nearest<'a>(name: &str, among: &'a [String]) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = among
        .iter()
        .map(|other| (distance(name.as_bytes(), other.as_bytes()), other.as_str()))
        .filter(|(distance, other)| *distance <= 2 + name.len() / 5 || other.contains(name) || name.contains(other))
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, other)| other).collect()
}

/// How many letters must be added, taken or changed to get from one to the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.iter().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (other, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(letter != other)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for good in ["payments.captured.v1", "a", "A_b-9.", "..."] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "creating~x", &"x".repeat(250)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn near_names_are_found() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        let topics = ["payments.captured.v1", "orders", "payments.failed.v1"].map(str::to_owned);
        assert_eq!(nearest("payment.captured.v1", &topics), ["payments.captured.v1"]);
        assert!(nearest("zebra", &topics).is_empty());
    }
}

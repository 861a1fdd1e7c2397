//! Named crash points. Compiled in always, armed by `KAPPA_FAILPOINT=K10` (die at the first hit) or `K10:3` (at the
//! third); several are separated by commas. A hit is SIGKILL: no destructor runs, nothing is flushed.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static ARMED: OnceLock<HashMap<String, AtomicU64>> = OnceLock::new();

fn armed() -> &'static HashMap<String, AtomicU64> {
    ARMED.get_or_init(|| parse(&std::env::var("KAPPA_FAILPOINT").unwrap_or_default()))
}

fn parse(text: &str) -> HashMap<String, AtomicU64> {
    let one = |point: &str| {
        let (name, hit) = point.split_once(':').unwrap_or((point, "1"));
        (name.trim().to_owned(), AtomicU64::new(hit.trim().parse().unwrap_or(1)))
    };
    text.split(',').filter(|point| !point.trim().is_empty()).map(one).collect()
}

/// Whether the point is named in the environment: for code that must take another path to die in the middle of a write.
pub fn is_armed(name: &str) -> bool {
    armed().contains_key(name)
}

/// Dies here if the point is armed and its count is reached.
pub fn hit(name: &str) {
    if let Some(left) = armed().get(name)
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("failpoint {name}: killed");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_without_a_count_is_armed_for_its_first_hit() {
        let points = parse("K10, K3:2");
        assert_eq!(points["K10"].load(Ordering::SeqCst), 1);
        assert_eq!(points["K3"].load(Ordering::SeqCst), 2);
    }
}

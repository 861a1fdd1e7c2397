//! Named fault points. Compiled in always, armed by `KAPPA_FAILPOINT=K10` (die at the first hit) or `K10:3` (at the
//! third); several are separated by commas. A hit is SIGKILL: no destructor runs, nothing is flushed. `K10:3:stop` is SIGSTOP
//! instead, as of a process that hangs and wakes up later, and `K10:3:panic` a panic of the thread that comes there.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Panic,
}

/// A point that is armed: how many hits are left, and what the last of them does.
#[derive(Debug)]
struct Armed {
    left: AtomicU64,
    fault: Fault,
}

static ARMED: OnceLock<HashMap<String, Armed>> = OnceLock::new();

fn armed() -> &'static HashMap<String, Armed> {
    ARMED.get_or_init(|| parse(&std::env::var("KAPPA_FAILPOINT").unwrap_or_default()))
}

fn parse(text: &str) -> HashMap<String, Armed> {
    let one = |point: &str| {
        let mut parts = point.split(':').map(str::trim);
        let name = parts.next().unwrap_or_default().to_owned();
        let left = AtomicU64::new(parts.next().and_then(|hit| hit.parse().ok()).unwrap_or(1));
        let fault = match parts.next() {
            Some("stop") => Fault::Stop,
            Some("panic") => Fault::Panic,
            _ => Fault::Kill,
        };
        (name, Armed { left, fault })
    };
    text.split(',').filter(|point| !point.trim().is_empty()).map(one).collect()
}

/// Whether the point is named in the environment: for code that must take another path to die in the middle of a write.
pub fn is_armed(name: &str) -> bool {
    armed().contains_key(name)
}

/// Dies here, stops here or panics here if the point is armed and its count is reached.
pub fn hit(name: &str) {
    let Some(point) = armed().get(name) else { return };
    if point.left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    match point.fault {
        Fault::Kill => {
            eprintln!("failpoint {name}: killed");
            let _ = kill_process(getpid(), Signal::KILL);
        }
        Fault::Stop => {
            eprintln!("failpoint {name}: stopped");
            let _ = kill_process(getpid(), Signal::STOP);
            // It may be another thread that is told first.
            std::thread::sleep(Duration::from_millis(100));
        }
        Fault::Panic => panic!("failpoint {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_without_a_count_is_armed_for_its_first_hit() {
        let points = parse("K10, K3:2, K8:4:stop,K1:1:panic");
        let is = |name: &str| (points[name].left.load(Ordering::SeqCst), points[name].fault);
        assert_eq!((is("K10"), is("K3")), ((1, Fault::Kill), (2, Fault::Kill)));
        assert_eq!((is("K8"), is("K1")), ((4, Fault::Stop), (1, Fault::Panic)));
    }
}

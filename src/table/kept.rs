//! What was read from files that never change: kept up to a number of bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// By the file's URL.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// Bytes in all, and of one file.
    room: u64,
    largest: u64,
    files: Mutex<Files<T>>,
}

#[derive(Debug)]
struct Files<T> {
    bytes: u64,
    by_url: HashMap<String, Arc<T>>,
}

impl<T> Kept<T> {
    /// Nothing yet; `room` bytes in all, and files of at most `largest`.
    pub(super) fn new(room: u64, largest: u64) -> Self {
        Self { room, largest, files: Mutex::new(Files { bytes: 0, by_url: HashMap::new() }) }
    }

    /// What is kept of a file.
    pub(super) fn get(&self, url: &str) -> Option<Arc<T>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).by_url.get(url).cloned()
    }

    /// Keeps what is in a file, if that is not too much.
    pub(super) fn put(&self, url: &str, content: &Arc<T>, bytes: u64) {
        if bytes > self.largest {
            return;
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in use comes back at the next commit; what is not is forgotten without counting.
        if files.bytes.saturating_add(bytes) > self.room {
            *files = Files { bytes: 0, by_url: HashMap::new() };
        }
        if files.by_url.insert(url.to_owned(), content.clone()).is_none() {
            files.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let kept = Kept::new(10, 6);
        let has = |urls: [&str; 3]| urls.map(|url| kept.get(url).is_some());
        kept.put("a", &Arc::new(1), 6);
        kept.put("a", &Arc::new(1), 6);
        kept.put("b", &Arc::new(2), 4);
        kept.put("c", &Arc::new(3), 7);
        assert_eq!(has(["a", "b", "c"]), [true, true, false]);
        kept.put("c", &Arc::new(3), 1);
        assert_eq!(has(["a", "b", "c"]), [false, false, true]);
    }
}

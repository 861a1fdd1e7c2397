//! What is published, and what is left behind.

use super::*;

/// A process that was stopped in the middle of its recovery goes on after it was taken over.
#[test]
fn what_a_later_owner_has_made_is_not_cleared_away() {
    let root = tempfile::tempdir().unwrap();
    let dir = VersionDir::new(root.path(), "v");
    dir.create().unwrap();
    for state in ["6-1", "7-2", "8-3", "10-4", "11-4.tmp", "5-2.tmp", "work/2", "work/3", "work/4"] {
        let state = if state.starts_with("work") { state.to_owned() } else { format!("state/{state}") };
        std::fs::create_dir(dir.root().join(state)).unwrap();
    }
    for staged in ["9.2.tmp", "11.4.tmp"] {
        std::fs::write(dir.root().join("manifests").join(staged), "").unwrap();
    }
    let mut kept = Kept::default();
    kept.add(Epoch(7), Some("state/7-2".to_owned()));
    dir.remove_orphans(&kept, 3).unwrap();
    let left = |folder: &str| {
        let mut names = file_names(&dir.root().join(folder)).unwrap();
        names.sort();
        names
    };
    assert_eq!(left("state"), ["10-4", "11-4.tmp", "7-2"]);
    assert_eq!((left("manifests"), left("work")), (vec!["11.4.tmp".to_owned()], vec!["3".to_owned(), "4".to_owned()]));
}

/// The lock may be held by one that hangs while the one that took over from it has died since.
#[test]
#[cfg(target_os = "linux")]
fn whoever_holds_the_version_is_named_and_not_a_process_that_is_gone() {
    let golden = include_bytes!("../../../tests/golden/manifest-format-1.manifest");
    let Sealed { manifest, .. } = Manifest::decode(golden).unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = VersionDir::new(root.path(), "v");
    dir.create().unwrap();
    let lock = dir.lock(false).unwrap();
    let refusal = || dir.lock(false).unwrap_err();
    let us = Holder::this(now_ms());
    assert!(refusal().message().contains(&format!("runs this version: {}, since", us.process)), "{}", refusal());
    let mut number = manifest.checkpoint;
    let mut claim = |holder: Holder| {
        number = number.next();
        dir.publish(&Manifest { checkpoint: number, holder: Some(holder), ..manifest.clone() }).unwrap();
    };
    claim(us.clone());
    assert!(refusal().message().contains("runs this version"), "{}", refusal());
    let gone = us.birth.clone().map(|birth| birth + "0");
    claim(Holder { process: "process 7 on host x".into(), birth: gone.clone(), ..us.clone() });
    let said = refusal().message().to_owned();
    assert!(said.contains(&format!("holds this version: {}", us.process)), "{said}");
    assert!(said.contains("process 7 on host x, since") && said.ends_with("which took over from it, is gone"), "{said}");
    claim(Holder { birth: gone, ..us });
    assert!(refusal().message().contains("is gone, but a process that it has started"), "{}", refusal());
    drop(lock);
    dir.lock(false).unwrap();
}

/// Two that took themselves for the owner: whose successor goes on from what was published last keeps it, and what comes
/// under a number that was cleared away goes.
#[test]
fn a_manifest_under_a_number_of_the_past_stays_only_if_the_next_one_follows_it() {
    let golden = include_bytes!("../../../tests/golden/manifest-format-1.manifest");
    let Sealed { manifest, .. } = Manifest::decode(golden).unwrap();
    let (_, hash) = manifest.encode().unwrap();
    for (previous, stays) in [(hash, true), ("of another".to_owned(), false)] {
        let root = tempfile::tempdir().unwrap();
        let dir = VersionDir::new(root.path(), "v");
        dir.create().unwrap();
        let next = Epoch(manifest.checkpoint.0 + 1);
        dir.publish(&Manifest { checkpoint: next, previous, ..manifest.clone() }).unwrap();
        assert_eq!(dir.publish(&manifest).unwrap_err().code(), "taken_over");
        assert_eq!(dir.list().unwrap().contains(&manifest.checkpoint), stays);
    }
}

/// Whether the next one follows is not known if it cannot be read: nothing is removed for that.
#[test]
fn a_manifest_whose_next_one_cannot_be_read_stays() {
    let golden = include_bytes!("../../../tests/golden/manifest-format-1.manifest");
    let Sealed { manifest, .. } = Manifest::decode(golden).unwrap();
    let next = manifest.checkpoint.next();
    for (is_there, code, stays) in [(true, "io", true), (false, "taken_over", false)] {
        let root = tempfile::tempdir().unwrap();
        let dir = VersionDir::new(root.path(), "v");
        dir.create().unwrap();
        dir.publish(&Manifest { checkpoint: next.next(), ..manifest.clone() }).unwrap();
        if is_there {
            std::fs::create_dir(dir.manifest_path(next)).unwrap();
        }
        assert_eq!(dir.publish(&manifest).unwrap_err().code(), code);
        assert_eq!(dir.list().unwrap().contains(&manifest.checkpoint), stays);
    }
}

/// A process that was taken over while it runs writes into its directory as long as it lives.
#[test]
fn an_owner_that_still_writes_is_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    let dir = VersionDir::new(root.path(), "v");
    dir.create().unwrap();
    let (work, over) = (dir.work(2), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let _ = std::fs::create_dir(&work);
                (0..50).for_each(|file| drop(std::fs::write(work.join(file.to_string()), "")));
            }
        });
        let clear = || {
            while !work.join("20").exists() {
                std::thread::yield_now();
            }
            dir.remove_orphans(&Kept::default(), 3)
        };
        let cleared: Vec<_> = (0..80).map(|_| clear()).collect();
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        cleared.into_iter().for_each(|outcome| outcome.unwrap());
    });
    dir.remove_orphans(&Kept::default(), 3).unwrap();
    assert!(!work.exists());
}

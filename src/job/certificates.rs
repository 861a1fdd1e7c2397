//! Replay certificates, beside the checkpoints: of each plan the newest. A plan that failed gets no new version.

use std::path::{Path, PathBuf};

use crate::durable::{create_directory, sync_directory};
use crate::error::{Error, Result};
use crate::protocol::certificate::Certificate;
use crate::table::files::write_durable;
use crate::time::new_uuid;

/// The format that this release writes and reads.
pub const FORMAT: u32 = 1;

fn directory(checkpoints: &Path) -> PathBuf {
    checkpoints.join("certificates")
}

/// Fingerprints are hexadecimal digits: they lead nowhere else.
fn path_of(checkpoints: &Path, fingerprint: &str) -> PathBuf {
    directory(checkpoints).join(format!("{fingerprint}.json"))
}

/// Keeps a certificate, in the place of an earlier one of its plan.
///
/// # Errors
/// Those of the disk.
pub fn keep(checkpoints: &Path, certificate: &Certificate) -> Result<()> {
    let text = serde_json::to_vec(certificate).map_err(|error| Error::internal(format!("write a certificate: {error}")))?;
    let directory = directory(checkpoints);
    create_directory(&directory)?;
    let staged = directory.join(format!("{}.tmp", new_uuid()));
    write_durable(&staged, &text)?;
    std::fs::rename(&staged, path_of(checkpoints, &certificate.fingerprint)).map_err(|error| {
        let _ = std::fs::remove_file(&staged);
        Error::io("rename", &staged, error)
    })?;
    sync_directory(&directory)
}

/// The newest certificate of a plan.
///
/// # Errors
/// Those of the disk; `Corruption` for one that cannot be read, which may have failed.
pub fn of(checkpoints: &Path, fingerprint: &str) -> Result<Option<Certificate>> {
    let path = path_of(checkpoints, fingerprint);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::io("read", &path, error))?,
    };
    let read = serde_json::from_slice::<Certificate>(&text).map_err(|error| error.to_string());
    let known = |it: Certificate| if it.format == FORMAT { Ok(it) } else { Err(format!("it has format {}", it.format)) };
    read.and_then(known).map(Some).map_err(|error| {
        Error::corruption("certificate", format!("the certificate {} cannot be read: {error}", path.display()))
            .hint("make it anew: --preview 24h --certify; or remove the file")
    })
}

/// Whether a new version of a plan may be made.
///
/// # Errors
/// `Refused` where its newest certificate failed, unless `force`.
pub fn check(checkpoints: &Path, fingerprint: &str, force: bool) -> Result<()> {
    if force {
        return Ok(());
    }
    of(checkpoints, fingerprint)?.map_or(Ok(()), |certificate| certificate.check())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::certificate::{CertifiedRun, Content};

    #[test]
    fn the_newest_of_a_plan_decides() {
        let place = tempfile::tempdir().unwrap();
        let content = |hash: &str| Content { rows: 1, hash: hash.to_owned() };
        let run = |hash| CertifiedRun { contents: [(String::new(), content(hash))].into(), ..CertifiedRun::default() };
        let certificate = |second| Certificate {
            format: FORMAT,
            fingerprint: "ab12".into(),
            runs: [run("a"), run(second)],
            ..Certificate::default()
        };
        assert_eq!(of(place.path(), "ab12").unwrap(), None);
        check(place.path(), "ab12", false).unwrap();
        keep(place.path(), &certificate("b")).unwrap();
        assert_eq!(of(place.path(), "ab12").unwrap(), Some(certificate("b")));
        assert_eq!(check(place.path(), "ab12", false).unwrap_err().code(), "not_certified");
        check(place.path(), "ab12", true).unwrap();
        check(place.path(), "ab13", false).unwrap();
        keep(place.path(), &certificate("a")).unwrap();
        check(place.path(), "ab12", false).unwrap();
        assert_eq!(std::fs::read_dir(directory(place.path())).unwrap().count(), 1, "nothing staged is left");
        // What cannot be read may have failed.
        std::fs::write(path_of(place.path(), "ab12"), "{\"format\":2}").unwrap();
        assert_eq!(check(place.path(), "ab12", false).unwrap_err().code(), "certificate");
    }
}

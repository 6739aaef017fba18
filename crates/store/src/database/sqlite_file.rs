//! The file of a SQLite database, readable by its owner alone.
//!
//! SQLite creates a file with the mode that the umask leaves, usually readable by everybody, and gives the files beside it (`-wal`,
//! `-shm`, `-journal`) the mode of the database. So the database is created here, with mode 0600, before SQLite opens it.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const PRIVATE: u32 = 0o600;
/// What others can do.
const OTHERS: u32 = 0o077;

/// Creates the file with mode 0600 unless it exists; takes the rights of others away from one that does. What cannot be done is
/// logged: SQLite says better why a file cannot be opened, and a file of another owner can be meant to be shared.
pub(super) fn make_private(file: &Path) {
    match OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(file) {
        // The umask cannot add rights, but it can take some away.
        Ok(created) => _ = created.set_permissions(Permissions::from_mode(PRIVATE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            for file in [file.to_owned(), beside(file, "-wal"), beside(file, "-shm"), beside(file, "-journal")] {
                narrow(&file);
            }
        }
        Err(_) => {}
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn narrow(file: &Path) {
    let Ok(metadata) = std::fs::metadata(file) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 || !metadata.is_file() {
        return;
    }
    let narrowed = std::fs::set_permissions(file, Permissions::from_mode(mode & !OTHERS));
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mode = format!("{mode:04o}");
    match narrowed {
        Ok(()) => tracing::warn!(file, mode, "a database file could be read or written by others, and is private now"),
        Err(error) => tracing::warn!(file, mode, %error, "a database file can be read or written by others"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The files of a folder and their modes.
    pub(in crate::database) fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777)).collect()
    }

    #[test]
    fn s81_a_file_that_others_can_read_becomes_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        for name in [file.clone(), beside(&file, "-wal"), beside(&file, "-shm")] {
            std::fs::write(&name, "").unwrap();
            std::fs::set_permissions(&name, Permissions::from_mode(0o666)).unwrap();
        }
        make_private(&file);
        assert!(modes(folder.path()).iter().all(|(_, mode)| *mode == 0o600));
        // One that is private already keeps its mode, and a folder is no file.
        std::fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        make_private(&file);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o400);
        make_private(folder.path());
        make_private(Path::new("/nowhere/at/all.db"));
    }
}

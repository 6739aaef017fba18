//! Files that only their owner may read.

use std::io::{self, Seek as _, Write};
use std::path::{Path, PathBuf};

/// Replaces the file with these bytes, in one step: a reader sees the old content or the new, never a part and never nothing.
///
/// The file has mode 0600 from its first instant. A symbolic link at `path` is replaced, not followed.
///
/// # Errors
/// The folder cannot be made or written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = written(path, content)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Makes the file with these bytes unless it exists. `false`: it exists, and was left as it is.
///
/// # Errors
/// The folder cannot be made or written.
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<bool> {
    let file = written(path, content)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// A file that will be written, tried beforehand: the folder, the rights and the space on the disk are there. For what cannot be
/// repeated, such as the exchange of a token.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

/// How many bytes are reserved: more than any token with what is known of it.
const RESERVED_BYTES: usize = 64 * 1024;

/// Prepares to replace the file, which is left as it is until [`Reserved::write`].
///
/// # Errors
/// The folder cannot be made or written, the disk is full, or `path` is a folder.
pub(crate) fn reserve(path: &Path) -> io::Result<Reserved> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let file = written(path, &vec![0; RESERVED_BYTES])?;
    Ok(Reserved { file, path: path.to_owned() })
}

impl Reserved {
    /// Replaces the file with these bytes, in one step as [`replace`] does.
    ///
    /// # Errors
    /// The folder or the disk is not any more as it was.
    pub(crate) fn write(mut self, content: &[u8]) -> io::Result<()> {
        let file = self.file.as_file_mut();
        file.rewind()?;
        file.write_all(content)?;
        // Last, so that the space stays reserved while it is written.
        file.set_len(content.len() as u64)?;
        file.sync_all()?;
        self.file.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(&self.path)
    }

    /// Where the file will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and its parents, for their owner alone.
///
/// # Errors
/// A folder cannot be made.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A temporary file beside `path` that holds the content, on disk. `tempfile` makes its files with mode 0600.
fn written(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = folder_of(path);
    create_folder(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    std::fs::File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_replaced_file_holds_exactly_the_new_content_with_mode_0600(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..4),
            first_mode in prop::sample::select(vec![0o600_u32, 0o644, 0o666, 0o400]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("made/on/demand/token");
            for content in &contents {
                replace(&path, content).unwrap();
                prop_assert_eq!(&std::fs::read(&path).unwrap(), content);
                prop_assert_eq!(mode(&path), 0o600);
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(first_mode)).unwrap();
            }
            // Nothing temporary is left behind.
            prop_assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_reader_never_sees_a_part_of_a_file_that_is_being_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let content = |letter: u8| vec![letter; 64 * 1024];
        replace(&path, &content(b'a')).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0_u32;
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    let seen = std::fs::read(&path).unwrap();
                    assert_eq!(seen.len(), 64 * 1024);
                    assert!(seen.iter().all(|&letter| letter == seen[0]));
                    reads += 1;
                }
            });
            for round in 0..50 {
                replace(&path, &content(b'a' + round % 26)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_its_target_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert!(!std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_reserved_file_changes_nothing_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/token");
        let reserved = reserve(&path).unwrap();
        assert!(!path.exists());
        drop(reserved);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left behind");
        for content in [&b"first"[..], b"", &vec![7; 2 * RESERVED_BYTES]] {
            reserve(&path).unwrap().write(content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(mode(&path), 0o600);
        }
    }

    #[test]
    fn what_cannot_be_written_cannot_be_reserved() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(reserve(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(reserve(&file.join("token")).is_err());
    }

    #[test]
    fn create_never_changes_a_file_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(create(&path, b"first").unwrap());
        assert!(!create(&path, b"second").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn folders_are_made_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_folder(&inner).unwrap();
        create_folder(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
    }
}

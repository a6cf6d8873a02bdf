//! What a member that recovers remembers over restarts: small files in its data directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Its name is there while the member recovers.
const RECOVERING: &str = "recovering";
/// Its name is there since the member has a log.
const BEGUN: &str = "begun";

/// What a member that recovers remembers over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Its log knows its last vote.
    Certain,
    /// It does not; the last one that could be read was given in this term.
    Lost(u64),
}

/// Notes, durably, that the member has again all it ever acknowledged. Blocks.
pub fn forget(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(data_dir.join(RECOVERING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::open(data_dir)?.sync_all(),
    }
}

/// Notes, durably, that the member has a log. Blocks.
pub fn begin(data_dir: &Path) -> io::Result<()> {
    write_durably(data_dir, BEGUN, "")
}

/// Whether it ever had one.
pub fn has_begun(data_dir: &Path) -> bool {
    data_dir.join(BEGUN).exists()
}

impl Note {
    /// Reads the note of a data directory; none if the member does not recover.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(data_dir.join(RECOVERING)) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What can not be read is the worst that can be meant.
    fn parse(text: &str) -> Self {
        match text.trim().split_once(' ') {
            None if text.trim() == "certain" => Self::Certain,
            Some(("lost", term)) => Self::Lost(term.parse().unwrap_or_default()),
            _ => Self::Lost(0),
        }
    }

    /// Writes it, durably.
    pub fn write(self, data_dir: &Path) -> io::Result<()> {
        let text = match self {
            Self::Certain => "certain\n".to_owned(),
            Self::Lost(term) => format!("lost {term}\n"),
        };
        write_durably(data_dir, RECOVERING, &text)
    }
}

/// Writes a small file whole or not at all. One that is there with this content is left alone.
fn write_durably(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = data_dir.join(name);
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let new = data_dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_note_is_read_back_and_one_that_can_not_be_read_means_the_worst() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(dir.path()).unwrap(), None);
        for note in [Note::Certain, Note::Lost(0), Note::Lost(77)] {
            note.write(dir.path()).unwrap();
            assert_eq!(Note::read(dir.path()).unwrap(), Some(note));
        }
        for text in ["", "cert", "lost", "lost x", "certain 7"] {
            fs::write(dir.path().join(RECOVERING), text).unwrap();
            assert_eq!(
                Note::read(dir.path()).unwrap(),
                Some(Note::Lost(0)),
                "{text:?}"
            );
        }
        forget(dir.path()).unwrap();
        assert_eq!(Note::read(dir.path()).unwrap(), None);
        forget(dir.path()).unwrap();
    }
}

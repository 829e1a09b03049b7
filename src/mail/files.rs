//! Mails as files: for trying out, for tests, and for a relay that picks them up.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::error::{MailError, SendError, local};
use super::message::Mail;

/// A directory that gets a file for each mail, named `{unix seconds}-{message id}.eml`.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes the directory if need be, readable by its owner only.
    pub fn new(dir: PathBuf) -> Result<Self, MailError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|source| MailError::File { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// Writes a mail; whoever watches the directory sees it whole or not at all.
    pub async fn write(&self, mail: &Mail, bytes: Vec<u8>, now: Timestamp) -> Result<String, SendError> {
        let name = format!("{:010}-{}.eml", now.as_second(), mail.message_id.bare());
        let path = self.dir.join(&name);
        blocking(move || write_whole(&path, &bytes)).await?;
        Ok(name)
    }

    /// Writes and removes a file.
    pub async fn check(&self) -> Result<(), SendError> {
        let path = self.dir.join("check.eml");
        blocking(move || write_whole(&path, b"").and_then(|()| fs::remove_file(&path))).await
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), SendError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(io::Error::other("the writing task was stopped")));
    done.map_err(|error| local(false, &error.to_string()))
}

/// Crash: a hidden unfinished file may be left behind, and the next try replaces it.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = dir.join(format!(".{name}.unfinished"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    fs::File::open(dir)?.sync_all()
}

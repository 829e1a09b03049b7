//! Every mail with sample data, as files to look at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::letter::{self, AlarmContext, Letter, MailContext, MailName};
use crate::template::{TemplateError, Templates, samples};

/// Why the previews could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file.
    #[error("the preview could not be written: {0}")]
    File(#[from] io::Error),
    /// The sample data do not fit the mails.
    #[error("the sample data cannot be read: {0}")]
    Samples(#[from] serde_json::Error),
}

/// Every mail with every sample: name, number of the sample, letter.
///
/// # Errors
/// [`PreviewError`] from templates and samples.
pub fn letters(templates: &Templates) -> Result<Vec<(&'static str, usize, Letter)>, PreviewError> {
    let mut written = Vec::new();
    for name in MailName::ALL {
        for (number, sample) in samples("mail", name.as_str()).into_iter().enumerate() {
            let context: MailContext = serde_json::from_value(sample)?;
            written.push((name.as_str(), number + 1, letter::write(templates, name, &context)?));
        }
    }
    for (number, sample) in alarms().into_iter().enumerate() {
        let context: AlarmContext = serde_json::from_value(sample)?;
        written.push(("operator_alarm", number + 1, letter::write_alarm(templates, &context)?));
    }
    Ok(written)
}

fn alarms() -> Vec<Json> {
    samples("mail", "operator_alarm")
}

/// Writes every mail with sample data into `dir`, as `{mail}-{sample}.txt` and `.html`, and returns the files.
///
/// # Errors
/// [`PreviewError`].
pub fn write_all(dir: &Path, templates: &Templates) -> Result<Vec<PathBuf>, PreviewError> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    for (name, number, letter) in letters(templates)? {
        let text = dir.join(format!("{name}-{number}.txt"));
        fs::write(&text, format!("Subject: {}\n\n{}", letter.subject, letter.text))?;
        files.push(text);
        if let Some(html) = letter.html {
            let page = dir.join(format!("{name}-{number}.html"));
            fs::write(&page, html)?;
            files.push(page);
        }
    }
    Ok(files)
}

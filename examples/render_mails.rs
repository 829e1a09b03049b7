//! Writes every mail and page with sample data into a directory: `cargo run --example render_mails -- DIR [TEMPLATES]`.

use std::path::PathBuf;

use recurd::{http, mail, template};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let dir = arguments.next().unwrap_or_else(|| PathBuf::from("target/preview"));
    let templates = template::Templates::load(arguments.next().as_deref())?;
    let mails = mail::preview::write_all(&dir, &templates)?;
    let pages = http::pages::write_all(&dir, &templates)?;
    println!("{} mails and {} pages are in {}", mails.len(), pages.len(), dir.display());
    Ok(())
}

//! One mail, and the bytes it becomes. The same mail always becomes the same bytes.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Message, MultiPart, SinglePart};
use ring::digest;

use super::address::{HeaderError, HeaderText, Mailbox, MessageId};
use super::letter::Letter;

/// Headers that [`Mail`] has fields for, or that would change who gets it or how it is read.
const RESERVED: [&str; 15] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "received",
    "return-path",
];

/// A further header, such as `Auto-Submitted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHeader {
    name: String,
    value: HeaderText,
}

impl ExtraHeader {
    /// Checks name and value.
    ///
    /// # Errors
    /// [`HeaderError`] for names that are malformed or reserved, and values with control characters.
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderError> {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || name.len() > 70 || RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(HeaderError::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), value: HeaderText::new("the value of a further header", value)? })
    }
}

/// A mail to one address. Every field has been checked when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The same for every try to send it.
    pub message_id: MessageId,
    /// Who writes; bounces go there too.
    pub from: Mailbox,
    /// Where answers go, when not to `from`.
    pub reply_to: Option<Mailbox>,
    /// Who gets it.
    pub to: Mailbox,
    /// The subject.
    pub subject: HeaderText,
    /// The plain part.
    pub text: String,
    /// The HTML part.
    pub html: Option<String>,
    /// When it was written, not when it is sent.
    pub date: Timestamp,
    /// Further headers.
    pub headers: Vec<ExtraHeader>,
}

impl Mail {
    /// A mail from a written letter, marked as automatic so that no answering machine answers it.
    ///
    /// # Errors
    /// [`HeaderError`] when the letter's subject is empty.
    pub fn new(
        message_id: MessageId,
        from: Mailbox,
        to: Mailbox,
        letter: Letter,
        date: Timestamp,
    ) -> Result<Self, HeaderError> {
        let subject = HeaderText::new("the subject", &letter.subject)?;
        let headers = vec![
            ExtraHeader::new("Auto-Submitted", "auto-generated")?,
            ExtraHeader::new("X-Auto-Response-Suppress", "All")?,
            ExtraHeader::new("Content-Language", &letter.locale)?,
        ];
        let Letter { text, html, .. } = letter;
        Ok(Self { message_id, from, reply_to: None, to, subject, text, html, date, headers })
    }

    /// The whole message as it goes over the wire: ASCII, lines ended by CR LF.
    ///
    /// # Errors
    /// [`lettre::error::Error`] when the mail cannot be written, which checked fields rule out.
    pub fn to_bytes(&self) -> Result<Vec<u8>, lettre::error::Error> {
        Ok(self.to_lettre()?.formatted())
    }

    pub(super) fn to_lettre(&self) -> Result<Message, lettre::error::Error> {
        let mut builder = Message::builder()
            .message_id(Some(self.message_id.as_str().to_owned()))
            .date(system_time(self.date))
            .from(self.from.to_lettre())
            .to(self.to.to_lettre())
            .subject(self.subject.as_str());
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.to_lettre());
        }
        for header in &self.headers {
            let name = HeaderName::new_from_ascii(header.name.clone())
                .map_err(|_| lettre::error::Error::NonAsciiChars)?;
            builder = builder.raw_header(HeaderValue::new(name, header.value.as_str().to_owned()));
        }
        match &self.html {
            Some(html) => builder.multipart(
                MultiPart::builder()
                    .kind(lettre::message::MultiPartKind::Alternative)
                    .boundary(self.boundary())
                    .singlepart(SinglePart::plain(self.text.clone()))
                    .singlepart(SinglePart::html(html.clone())),
            ),
            None => builder.header(ContentType::TEXT_PLAIN).body(self.text.clone()),
        }
    }

    /// Derived, so that sending again sends the same bytes; a hash, so that no text can guess it.
    fn boundary(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [self.message_id.as_str(), &self.text, self.html.as_deref().unwrap_or("")] {
            hash.update(part.as_bytes());
        }
        hash.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The mail library wants the standard library's time; this converts and asks no clock.
fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

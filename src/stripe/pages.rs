//! Lists, read to their end. <https://docs.stripe.com/api/pagination>
//!
//! Only Stripe's list endpoints are used, which read live data. Its search index lags by minutes and must never
//! decide whether a charge exists.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::doubt;
use super::client::{Client, Endpoint};
use super::error::{Call, Error, Why};
use super::fields::Identified;
use super::form::{Form, checked_id};

/// Limit: 10,000 objects held in memory at once. More mean that the question was too wide.
const PAGES_MAX: u32 = 100;

/// Stripe's own maximum for one page.
const PAGE_SIZE: i64 = 100;

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    has_more: bool,
}

/// A list, newest first, page by page.
pub struct Pages<T> {
    client: Client,
    endpoint: Endpoint,
    path: String,
    state: State,
    pages: u32,
    item: PhantomData<fn() -> T>,
}

enum State {
    First,
    After(String),
    End,
}

impl State {
    fn is_after(&self, id: &str) -> bool {
        matches!(self, Self::After(last) if last == id)
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({}, {} read)", self.endpoint.0, self.pages)
    }
}

impl<T: DeserializeOwned + Identified> Pages<T> {
    pub(super) fn new(client: &Client, endpoint: Endpoint, path: &str, filter: Form) -> Self {
        let path = format!("{path}?{}", filter.number("limit", PAGE_SIZE).encode());
        Self { client: client.clone(), endpoint, path, state: State::First, pages: 0, item: PhantomData }
    }

    /// The next page, or `None` after the last.
    ///
    /// # Errors
    /// Those of a GET, and [`Why::ListWithoutEnd`] for a list that does not move.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, Error> {
        let path = match &self.state {
            State::First => self.path.clone(),
            State::After(id) => format!("{}&starting_after={id}", self.path),
            State::End => return Ok(None),
        };
        let page: Page<T> = self.client.get(self.endpoint, path).await?.value;
        self.pages += 1;
        self.state = match (page.has_more, page.data.last()) {
            (false, _) => State::End,
            (true, Some(last)) if !self.state.is_after(last.id()) => {
                State::After(checked_id(last.id())?.to_owned())
            }
            (true, _) => return Err(self.without_end()),
        };
        Ok(Some(page.data))
    }

    /// Everything, newest first.
    ///
    /// # Errors
    /// As [`Pages::next`], and [`Why::ListWithoutEnd`] for more than 100 pages. A list that could not be read
    /// to its end is an error, never a shorter list.
    pub async fn all(mut self) -> Result<Vec<T>, Error> {
        let mut everything = Vec::new();
        while let Some(mut page) = self.next().await? {
            everything.append(&mut page);
            if self.pages == PAGES_MAX && !matches!(self.state, State::End) {
                return Err(self.without_end());
            }
        }
        Ok(everything)
    }

    fn without_end(&self) -> Error {
        tracing::error!(
            endpoint = self.endpoint.0,
            pages = self.pages,
            "{} did not end after {} pages; nothing is concluded from it",
            self.endpoint.0,
            self.pages
        );
        let path = self.path.split('?').next().unwrap_or_default().to_owned();
        let call = Call { method: http::Method::GET, path, request_id: None, sends: 0 };
        doubt(call, Why::ListWithoutEnd { pages: self.pages }, false)
    }
}

//! What a customer sees when there is no page to show: the same page for everything that is not there, and one that asks
//! for patience.

use std::error::Error;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Http;
use super::language::Language;
use super::pages::{ErrorPage, LocalPath};

/// Why a page cannot be shown.
pub(super) enum Trouble {
    /// There is none: no such token, no such address.
    Missing,
    /// The database or Stripe failed.
    Failed(String),
}

impl<E: Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Http {
    /// The page, or what stands for it. `path`: where to try again.
    pub(super) fn answer(
        &self,
        language: &Language,
        path: &str,
        page: Result<Response, Trouble>,
    ) -> Response {
        let locale = &language.0;
        match page {
            Ok(page) => page,
            Err(Trouble::Missing) if self.misses.check().is_err() => self.too_many(locale),
            Err(Trouble::Missing) => self.page(StatusCode::NOT_FOUND, self.pages.render_not_found(locale)),
            Err(Trouble::Failed(error)) => {
                let reference = uuid::Uuid::new_v4().simple().to_string();
                tracing::error!(reference, "A page could not be shown: {error}");
                let page = ErrorPage { path: LocalPath::new(path).ok(), reference: Some(reference) };
                self.page(StatusCode::SERVICE_UNAVAILABLE, self.pages.render_error(locale, &page))
            }
        }
    }

    pub(super) fn too_many(&self, locale: &str) -> Response {
        self.page(StatusCode::TOO_MANY_REQUESTS, self.pages.render_too_many(locale))
    }
}

/// Anything else that is asked for: the same page as for a token that does not exist.
pub(super) async fn not_found(State(http): State<Http>, language: Language) -> Response {
    http.answer(&language, "", Err(Trouble::Missing))
}

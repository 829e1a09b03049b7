//! The pages behind a mail's button, as HTML. No routes here, and no script: a page that takes money has nothing
//! that could be injected into.
//!
//! Every page is sent with [`Pages::headers`]. A form has no `action`: it posts to the address it was opened at.

mod context;
mod policy;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use context::{ErrorPage, LocalPath, NotLocal, OtherCharge, PayPage, PayState, SaveCardPage, ThanksPage};
pub use policy::style_source;

use crate::mail::preview::localized;
use crate::mail::{Brand, Link};
use crate::template::{TemplateError, Templates, samples};

/// The stylesheet of every page; the brand's colours are put in front of it.
pub const STYLE: &str = include_str!("pages/style.css");

/// Where Stripe's hosted page lives, unless the merchant has a domain of their own for it.
pub const STRIPE_CHECKOUT_ORIGIN: &str = "https://checkout.stripe.com";

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct View<'a, P> {
    brand: &'a Brand,
    style: &'a str,
    locale: &'a str,
    #[serde(flatten)]
    page: &'a P,
}

/// Renders the pages of one merchant.
#[derive(Debug, Clone)]
pub struct Pages {
    templates: Templates,
    brand: Brand,
    style: String,
    headers: Vec<(&'static str, String)>,
}

impl Pages {
    /// Pages with this brand. `checkout_origins` are the servers a posted form may be redirected to: browsers
    /// check the redirect too, so without Stripe's (or the sandbox's) the button does nothing.
    #[must_use]
    pub fn new(templates: Templates, brand: Brand, checkout_origins: &[Link]) -> Self {
        let style = format!(":root {{ --brand: {}; --ink: {}; }}\n{STYLE}", brand.color, brand.color.ink());
        let headers = policy::headers(&style, &brand, checkout_origins);
        Self { templates, brand, style, headers }
    }

    /// What to send with every page: policy, no referrer (the link is a secret), no index, no cache.
    #[must_use]
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// The page behind a pay link.
    ///
    /// # Errors
    /// [`TemplateError`], here and below, when a template of the operator's meets data it cannot handle.
    pub fn render_pay(&self, locale: &str, page: &PayPage) -> Result<String, TemplateError> {
        self.render("pay.html", locale, page)
    }

    /// The page behind a link to save a card.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_save_card(&self, locale: &str, page: &SaveCardPage) -> Result<String, TemplateError> {
        self.render("save_card.html", locale, page)
    }

    /// After a card was saved.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_card_saved(&self, locale: &str) -> Result<String, TemplateError> {
        self.render("card_saved.html", locale, &Nothing {})
    }

    /// After leaving Stripe's page unfinished.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_turned_back(&self, locale: &str) -> Result<String, TemplateError> {
        self.render("turned_back.html", locale, &Nothing {})
    }

    /// After paying.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_thanks(&self, locale: &str, page: &ThanksPage) -> Result<String, TemplateError> {
        self.render("thanks.html", locale, page)
    }

    /// The one answer to every address that leads nowhere, so that guessing teaches nothing.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_not_found(&self, locale: &str) -> Result<String, TemplateError> {
        self.render("not_found.html", locale, &Nothing {})
    }

    /// Asked too often.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_too_many(&self, locale: &str) -> Result<String, TemplateError> {
        self.render("too_many.html", locale, &Nothing {})
    }

    /// Our own fault.
    ///
    /// # Errors
    /// See [`Pages::render_pay`].
    pub fn render_error(&self, locale: &str, page: &ErrorPage) -> Result<String, TemplateError> {
        self.render("error.html", locale, page)
    }

    /// The language, with its region, of amounts and dates on the pay page for someone who wants `wanted`.
    #[must_use]
    pub fn regional_locale(&self, wanted: &str) -> String {
        self.templates.regional_locale("pages", "pay.html", wanted)
    }

    fn render(&self, file: &str, locale: &str, page: &impl Serialize) -> Result<String, TemplateError> {
        let locale = self.templates.locale("pages", file, locale);
        let view = View { brand: &self.brand, style: &self.style, locale: &locale, page };
        self.templates.render(&format!("pages/{locale}/{file}"), &view)
    }
}

/// Writes every page with sample data in one language into `dir`, for looking at, and returns the files.
///
/// # Errors
/// The system's, and a template's as [`io::Error`].
pub fn write_all(dir: &Path, templates: &Templates, locale: &str) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    for stem in ["pay", "save_card", "card_saved", "turned_back", "thanks", "not_found", "too_many", "error"]
    {
        for (number, sample) in samples("pages", stem).into_iter().enumerate() {
            let brand: Brand = serde_json::from_value(sample["brand"].clone())?;
            let mut page = localized(sample, locale);
            for key in ["brand", "style", "locale"] {
                page.as_object_mut().map(|page| page.remove(key));
            }
            let pages = Pages::new(templates.clone(), brand, &[]);
            let html = pages.render(&format!("{stem}.html"), locale, &page).map_err(io::Error::other)?;
            let path = dir.join(format!("{locale}-page-{stem}-{}.html", number + 1));
            fs::write(&path, html)?;
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;

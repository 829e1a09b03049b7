//! What people see: the hosted Checkout page, 3-D Secure, a start page. No scripts, one style sheet.

use std::sync::LazyLock;

use minijinja::Environment;
use serde_json::{Value, json};

use crate::billing::money::Money;

use super::attempts;
use super::cards;
use super::checkout_pay::{self, CardEntry, PageStep};
use super::errors::ApiError;
use super::form::{self, Node};
use super::http::{Request, Response};
use super::payment_methods::PaymentMethod;
use super::session::{Mode, Progress, Session};
use super::setup_intents;
use super::state::{CallFacts, State};

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    let templates = [
        ("frame.html", include_str!("pages/frame.html")),
        ("checkout.html", include_str!("pages/checkout.html")),
        ("three_d_secure.html", include_str!("pages/three_d_secure.html")),
        ("ideal.html", include_str!("pages/ideal.html")),
        ("message.html", include_str!("pages/message.html")),
        ("start.html", include_str!("pages/start.html")),
    ];
    for (name, text) in templates {
        env.add_template(name, text).expect("the templates are compiled in, and a test renders each");
    }
    env
});

fn page(status: u16, name: &str, values: &Value) -> Response {
    let rendered =
        TEMPLATES.get_template(name).and_then(|template| template.render(minijinja::value::Serde(values)));
    match rendered {
        Ok(text) => Response::html(status, text),
        Err(error) => Response::new(500, "text/plain; charset=utf-8", format!("{name}: {error}\n")),
    }
}

pub(super) fn answer(state: &mut State, request: &Request) -> Response {
    state.call = CallFacts::default();
    let parts: Vec<&str> = request.path().trim_matches('/').split('/').collect();
    let posted = request.method == http::Method::POST;
    match (posted, &parts[..]) {
        (false, [""]) => start(state),
        (false, ["c", "pay", id]) => show(state, id, None),
        (true, ["c", "pay", id]) => submit(state, id, &Fields::read(request)),
        (false, ["c", "pay", id, "3ds" | "bank"]) => ask(state, id),
        (true, ["c", "pay", id, "3ds" | "bank"]) => answer_for_session(state, id, &Fields::read(request)),
        (false, ["3ds", id]) => ask_for_intent(state, id),
        (true, ["3ds", id]) => answer_for_intent(state, id, &Fields::read(request)),
        _ => message(
            state,
            404,
            "There is nothing here",
            "This is the sandbox of recurd. The API is under /v1/.",
        ),
    }
}

/// Form fields of a page.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(request: &Request) -> Self {
        let Node::Branch(fields) = form::parse([b"", &request.body]) else { return Self(Vec::new()) };
        let text = |(name, node)| match node {
            Node::Text(text) => Some((name, text)),
            Node::Branch(_) => None,
        };
        Self(fields.into_iter().filter_map(text).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(field, text)| field == name && !text.trim().is_empty());
        found.map(|(_, text)| text.trim().to_owned())
    }
}

fn start(state: &State) -> Response {
    let own: Value = cards::own().map(|kind| json!([kind.token, kind.number, kind.meaning])).collect();
    let counts = json!({
        "customers": state.customers.len(), "intents": state.payment_intents.len(),
        "charges": state.charges.len(), "sessions": state.sessions.len(),
    });
    page(
        200,
        "start.html",
        &json!({ "merchant": state.options.merchant_name, "cards": own, "counts": counts,
        "now": super::http::date(state.now()) }),
    )
}

fn message(state: &State, status: u16, title: &str, text: &str) -> Response {
    page(
        status,
        "message.html",
        &json!({ "merchant": state.options.merchant_name, "title": title, "text": text }),
    )
}

/// An amount as people write it; nothing without a currency.
fn money(amount: i64, currency: &str) -> String {
    let money = currency.parse().and_then(|currency| Money::from_minor(amount, currency));
    money.map(|money| money.to_string()).unwrap_or_default()
}

/// The page of a session in its present state, with what went wrong last.
fn show(state: &State, id: &str, refused: Option<&str>) -> Response {
    let Some(session) = state.sessions.get(id) else {
        return message(state, 404, "This page does not exist", "The link may be incomplete.");
    };
    match session.progress {
        Progress::Open => {}
        Progress::Complete { .. } => {
            return message(
                state,
                200,
                "All done",
                "You have completed this page already. You can close it.",
            );
        }
        Progress::Expired => {
            return message(
                state,
                410,
                "This page has expired",
                "Go back to the merchant to get a new link.",
            );
        }
    }
    let currency = session.currency.as_deref().unwrap_or_default();
    let items: Value = session
        .line_items
        .iter()
        .map(|item| json!({ "name": item.name, "quantity": item.quantity, "total": money(item.total(), currency) }))
        .collect();
    let status = if refused.is_some() { 402 } else { 200 };
    let text = |path: &str| session.params.owned(path);
    page(
        status,
        "checkout.html",
        &json!({
            "merchant": state.options.merchant_name, "id": id, "pays": session.mode == Mode::Payment,
            "amount": money(session.amount, currency), "items": items, "refused": refused,
            "saved": saved_cards(state, session), "email": email(state, session),
            "cancel_url": session.cancel_url.as_deref().filter(|url| is_web(url)),
            "needs_terms": text("consent_collection/terms_of_service").as_deref() == Some("required"),
            "may_save": text("saved_payment_method_options/payment_method_save").as_deref() == Some("enabled"),
            "keeps_card": session.mode == Mode::Setup || session.keeps_card(),
            "ideal": session.methods().iter().any(|one| one == cards::IDEAL),
            "debits": session.methods().iter().any(|one| one == cards::SEPA_DEBIT),
            "submit_text": text("custom_text/submit/message"),
            "terms_text": text("custom_text/terms_of_service_acceptance/message"),
        }),
    )
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn email(state: &State, session: &Session) -> Option<String> {
    let customer = session.customer.as_deref().and_then(|id| state.customers.get(id));
    customer.and_then(|customer| customer.email.clone()).or_else(|| session.params.owned("customer_email"))
}

/// Saved cards are offered when paying, if their `allow_redisplay` fits the session.
fn saved_cards(state: &State, session: &Session) -> Value {
    let (Mode::Payment, Some(customer)) = (session.mode, &session.customer) else { return json!([]) };
    let filters = session.redisplay_filters();
    let fits = |card: &&PaymentMethod| {
        card.customer.as_ref() == Some(customer) && filters.contains(&card.allow_redisplay)
    };
    let row = |card: &PaymentMethod| {
        json!({ "id": card.id, "brand": card.brand, "last4": card.last4,
            "expiry": format!("{:02}/{:02}", card.exp_month, card.exp_year % 100) })
    };
    state.payment_methods.newest_of(customer).filter(fits).map(row).collect()
}

fn submit(state: &mut State, id: &str, fields: &Fields) -> Response {
    // Whoever types a number means it, though a saved card was chosen before.
    let chosen = fields.get("saved").filter(|saved| saved != "new");
    let ideal = fields.get("ideal").map(|_| cards::IDEAL_TOKEN.to_owned());
    let given = ideal.or_else(|| fields.get("card")).or_else(|| fields.get("iban"));
    let entry = CardEntry {
        card: given.or(chosen).unwrap_or_default(),
        expiry: fields.get("exp"),
        cvc: fields.get("cvc"),
        email: fields.get("email"),
        name: fields.get("name"),
        terms_accepted: fields.get("terms").is_some(),
        save: fields.get("save").is_some(),
    };
    let step = checkout_pay::submit(state, id, &entry);
    after(state, id, step)
}

fn after(state: &State, id: &str, step: Result<PageStep, ApiError>) -> Response {
    match step {
        Ok(PageStep::Done { success_url }) => Response::redirect(&success_url),
        Ok(PageStep::Authenticate) => Response::redirect(&asking_page(state, id)),
        Ok(PageStep::Refused { message }) => show(state, id, Some(&message)),
        Err(_) => show(state, id, None),
    }
}

/// Where the customer says yes or no: to the card's bank, or to a transfer.
fn asking_page(state: &State, id: &str) -> String {
    format!("/c/pay/{id}/{}", if checkout_pay::is_at_bank(state, id) { "bank" } else { "3ds" })
}

fn ask(state: &State, id: &str) -> Response {
    let Some(session) = state.sessions.get(id).filter(|session| session.progress == Progress::Open) else {
        return show(state, id, None);
    };
    let amount = money(session.amount, session.currency.as_deref().unwrap_or_default());
    let amount = Some(amount).filter(|_| session.mode == Mode::Payment);
    let template = if checkout_pay::is_at_bank(state, id) { "ideal.html" } else { "three_d_secure.html" };
    asking(state, template, &asking_page(state, id), amount.as_deref())
}

fn asking(state: &State, template: &str, action: &str, amount: Option<&str>) -> Response {
    let values = json!({ "merchant": state.options.merchant_name, "action": action, "amount": amount });
    page(200, template, &values)
}

fn answer_for_session(state: &mut State, id: &str, fields: &Fields) -> Response {
    let passed = fields.get("answer").as_deref() == Some("complete");
    let step = checkout_pay::authenticate(state, id, passed);
    after(state, id, step)
}

/// 3-D Secure for an intent that the API confirmed on-session.
fn ask_for_intent(state: &State, id: &str) -> Response {
    let amount = state.payment_intents.get(id).map(|intent| money(intent.amount, &intent.currency));
    asking(state, "three_d_secure.html", &format!("/3ds/{id}"), amount.as_deref())
}

fn answer_for_intent(state: &mut State, id: &str, fields: &Fields) -> Response {
    let passed = fields.get("answer").as_deref() == Some("complete");
    let next = state.payment_intents.get(id).and_then(|intent| intent.next_action.clone());
    let back = next.and_then(|action| action["redirect_to_url"]["return_url"].as_str().map(str::to_owned));
    let done = match state.payment_intents.get(id) {
        Some(_) => attempts::authenticated(state, id, passed),
        None => setup_intents::authenticated(state, id, passed),
    };
    match (back, done) {
        (Some(url), _) => Response::redirect(&format!("{url}{}payment_intent={id}", separator(&url))),
        (None, Ok(())) => {
            message(state, 200, "Thank you", "You have authenticated. You can close this page.")
        }
        (None, Err(error)) => message(state, 402, "That did not work", error.message()),
    }
}

fn separator(url: &str) -> char {
    if url.contains('?') { '&' } else { '?' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(money(1099, "usd"), "10.99 USD");
        assert_eq!(money(500, "jpy"), "500 JPY");
        assert_eq!(money(5, "kwd"), "0.005 KWD");
    }

    #[test]
    fn every_template_renders() {
        for (name, _) in TEMPLATES.templates() {
            assert!(
                TEMPLATES
                    .get_template(name)
                    .unwrap()
                    .render(minijinja::value::Serde(json!({ "counts": {} })))
                    .is_ok(),
                "{name}"
            );
        }
    }
}

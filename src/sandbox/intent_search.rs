//! Search over `PaymentIntent`s: an index that lags behind and now and then loses sight of an object.

use super::api::{Answered, Call};
use super::errors::ApiError;
use super::intent::PaymentIntent;
use super::lists;
use super::state::State;

pub(super) fn search(state: &mut State, call: &Call<'_>) -> Answered {
    let query = call.params.text("query").ok_or_else(|| ApiError::missing_param("query"))?;
    let clauses = clauses(query)?;
    let limit = lists::limit(call.params)?;
    let skip = call
        .params
        .text("page")
        .map_or(Ok(0), |page| page.parse::<usize>().map_err(|_| ApiError::param("page", "Invalid page")))?;
    let lag = state.rng.between(0, state.options.search_lag_secs_max);
    let seen_until = state.now() - lag;
    let flickers = state.rng.percent(10);
    let found: Vec<&PaymentIntent> = state
        .payment_intents
        .range(None, None, None)
        .rev()
        .filter(|intent| intent.created <= seen_until && clauses.iter().all(|clause| clause.matches(intent)))
        .skip(usize::from(flickers && lag > 0))
        .collect();
    let data = found.iter().skip(skip).take(limit).map(|intent| intent.render()).collect();
    let next = skip + limit;
    let has_more = found.len() > next;
    let mut page = lists::wrap(data, has_more, "/v1/payment_intents/search");
    page["object"] = "search_result".into();
    page["next_page"] = has_more.then(|| next.to_string()).into();
    if call.params.texts("expand").iter().any(|path| path == "total_count") {
        page["total_count"] = found.len().into();
    }
    Ok(page)
}

/// One `field:'value'` of a query; only AND joins them here.
enum Clause {
    Metadata { key: String, value: String },
    Status(String),
    Customer(String),
    Currency(String),
}

impl Clause {
    fn matches(&self, intent: &PaymentIntent) -> bool {
        match self {
            Self::Metadata { key, value } => intent.metadata.get(key) == Some(value),
            Self::Status(status) => intent.status.name() == status,
            Self::Customer(customer) => intent.customer.as_ref() == Some(customer),
            Self::Currency(currency) => intent.currency == *currency,
        }
    }
}

fn clauses(query: &str) -> Result<Vec<Clause>, ApiError> {
    query.split(" AND ").map(|text| clause(text.trim())).collect()
}

fn clause(text: &str) -> Result<Clause, ApiError> {
    let refuse =
        || ApiError::param("query", format!("The sandbox does not understand {text:?} in a search."));
    let (field, value) = text.rsplit_once(':').ok_or_else(refuse)?;
    let value = value.trim_matches(['\'', '"']).to_owned();
    let key = field.strip_prefix("metadata[").and_then(|rest| rest.strip_suffix(']'));
    match (key, field) {
        (Some(key), _) => Ok(Clause::Metadata { key: key.trim_matches(['\'', '"']).to_owned(), value }),
        (None, "status") => Ok(Clause::Status(value)),
        (None, "customer") => Ok(Clause::Customer(value)),
        (None, "currency") => Ok(Clause::Currency(value)),
        _ => Err(refuse()),
    }
}

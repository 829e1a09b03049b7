//! Pages of objects, newest first.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::params::Params;
use super::table::{Record, Table};

/// Stripe's page sizes.
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: i64 = 100;

/// What a list endpoint asks for besides paging.
pub(super) struct Query<'a> {
    /// The endpoint's path, repeated in the answer.
    pub(super) url: &'a str,
    /// Only objects that belong to this id.
    pub(super) owner: Option<&'a str>,
}

/// One page of `table`: the rows that `keep` accepts, as `render` shows them.
pub(super) fn page<T: Record>(
    table: &Table<T>,
    params: &Params,
    query: &Query<'_>,
    keep: impl Fn(&T) -> bool,
    render: impl Fn(&T) -> Value,
) -> Result<Value, ApiError> {
    let limit = limit(params)?;
    let after = cursor(table, params, "starting_after")?;
    let before = cursor(table, params, "ending_before")?;
    if after.is_some() && before.is_some() {
        let message = "You may only provide one of these parameters: ending_before, starting_after.";
        return Err(ApiError::invalid(message).code("parameters_exclusive"));
    }
    let created = Created::read(params);
    let fits = |row: &&T| created.contains(row.created()) && keep(row);
    // Newest first: `starting_after` goes on with older rows, `ending_before` ends with newer ones.
    let mut rows: Vec<&T> = match before {
        Some(_) => table.range(query.owner, before, None).filter(fits).take(limit + 1).collect(),
        None => table.range(query.owner, None, after).rev().filter(fits).take(limit + 1).collect(),
    };
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    if before.is_some() {
        rows.reverse();
    }
    Ok(wrap(rows.into_iter().map(render).collect(), has_more, query.url))
}

/// The list object around a page.
pub(super) fn wrap(data: Vec<Value>, has_more: bool, url: &str) -> Value {
    json!({ "object": "list", "data": data, "has_more": has_more, "url": url })
}

pub(super) fn limit(params: &Params) -> Result<usize, ApiError> {
    match params.int("limit") {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => {
            Ok(usize::try_from(limit).unwrap_or(LIMIT_DEFAULT))
        }
        Some(limit) => {
            Err(ApiError::param("limit", format!("Invalid limit: {limit} is not from 1 to {LIMIT_MAX}"))
                .code("parameter_invalid_integer"))
        }
    }
}

fn cursor<T: Record>(table: &Table<T>, params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(id) = params.text(name) else { return Ok(None) };
    table.position(id).map(Some).ok_or_else(|| ApiError::no_such(T::OBJECT, name, id))
}

/// The filter `created=..` or `created[gte]=..`.
pub(super) struct Created {
    first: i64,
    last: i64,
}

impl Created {
    pub(super) fn read(params: &Params) -> Self {
        if let Some(at) = params.int("created") {
            return Self { first: at, last: at };
        }
        let bound = |name: &str| params.int(&format!("created/{name}"));
        let from =
            bound("gte").unwrap_or(i64::MIN).max(bound("gt").map_or(i64::MIN, |at| at.saturating_add(1)));
        let to =
            bound("lte").unwrap_or(i64::MAX).min(bound("lt").map_or(i64::MAX, |at| at.saturating_sub(1)));
        Self { first: from, last: to }
    }

    pub(super) fn contains(&self, at: i64) -> bool {
        (self.first..=self.last).contains(&at)
    }
}

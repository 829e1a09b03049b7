//! Plan revisions: immutable, numbered from 1.

use jiff::Timestamp;
use sqlx::FromRow;

use super::rows::{damaged, small};
use super::sql::{in_tx, on_db};
use super::{Result, Store};
use crate::billing::plan::Terms;

/// One immutable version of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRevision {
    /// The plan's key in the configuration.
    pub plan: String,
    /// From 1.
    pub revision: u32,
    /// What was agreed.
    pub terms: Terms,
}

#[derive(FromRow)]
struct Row {
    plan: String,
    revision: i64,
    terms: String,
}

impl Row {
    fn read(self) -> Result<PlanRevision> {
        let terms = serde_json::from_str(&self.terms).map_err(|error| {
            damaged("plan revision", format!("{}/{}", self.plan, self.revision), error.to_string())
        })?;
        let revision =
            small(self.revision).ok_or_else(|| damaged("plan revision", &self.plan, "negative revision"))?;
        Ok(PlanRevision { plan: self.plan, revision, terms })
    }
}

impl Store {
    /// The newest revision with exactly these terms: the present one if nothing changed, else a new one.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]; [`super::StoreError::Damaged`] for terms that do not read back.
    pub async fn ensure_plan(&self, plan: &str, terms: &Terms, now: Timestamp) -> Result<PlanRevision> {
        const NEWEST: &str =
            "SELECT plan, revision, terms FROM plan_revision WHERE plan = $1 ORDER BY revision DESC LIMIT 1";
        const INSERT: &str = "INSERT INTO plan_revision (plan, revision, terms, created_at) VALUES ($1, $2, $3, $4) \
            ON CONFLICT DO NOTHING";
        let text = super::charges::json(terms);
        loop {
            let agreed = in_tx!(self, tx => {
                let newest = sqlx::query_as::<_, Row>(NEWEST).bind(plan).fetch_optional(&mut *tx).await?;
                let newest = newest.map(Row::read).transpose()?;
                match newest {
                    Some(known) if known.terms == *terms => Some(known.revision),
                    other => {
                        let revision = other.map_or(1, |known| known.revision + 1);
                        let inserted = sqlx::query(INSERT)
                            .bind(plan)
                            .bind(i64::from(revision))
                            .bind(&text)
                            .bind(now.as_second())
                            .execute(tx)
                            .await?
                            .rows_affected();
                        (inserted == 1).then_some(revision)
                    }
                }
            });
            // None: another process took this number for other terms meanwhile. Each turn means somebody got one.
            if let Some(revision) = agreed {
                return Ok(PlanRevision { plan: plan.to_owned(), revision, terms: terms.clone() });
            }
        }
    }

    /// Every revision of every plan.
    ///
    /// # Errors
    /// As [`Store::ensure_plan`].
    pub async fn plan_revisions(&self) -> Result<Vec<PlanRevision>> {
        const LIST: &str = "SELECT plan, revision, terms FROM plan_revision ORDER BY plan, revision";
        let rows: Vec<Row> = on_db!(self, db => sqlx::query_as(LIST).fetch_all(db).await?);
        rows.into_iter().map(Row::read).collect()
    }
}

//! Which ladder a case goes: the one it began on, or that of the configuration while it has taken no step.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{Ctx, Result};
use crate::billing::calendar::zone;
use crate::billing::decline::Class;
use crate::billing::dunning::Rules;
use crate::billing::ids::ChargeId;
use crate::billing::ladder::{Ladder, LadderId};
use crate::store::{ChargeFilter, Claimed};

/// What this process has read or written of the ladders on record, which never change.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_id: RwLock<HashMap<LadderId, Arc<Ladder>>>,
    ids: RwLock<HashMap<Ladder, (LadderId, Arc<Ladder>)>>,
}

/// The ladder of a charge, with the zone of its customer.
pub(super) struct OnLadder {
    pub id: LadderId,
    pub ladder: Arc<Ladder>,
    zone: TimeZone,
}

impl OnLadder {
    pub(super) fn rules(&self, ctx: &Ctx) -> Rules<'_> {
        Rules { id: self.id, ladder: &self.ladder, retry: ctx.config.dunning.retry, zone: &self.zone }
    }
}

/// `class`: that of a decline that has just come.
pub(super) async fn of(ctx: &Ctx, claimed: &Claimed, class: Option<Class>) -> Result<OnLadder> {
    let case = claimed.charge.dunning;
    if let Some(case) = case.filter(|case| case.step > 0 || class.is_none())
        && let Some(ladder) = on_record(ctx, case.ladder).await?
    {
        return Ok(OnLadder { id: case.ladder, ladder, zone: zone_of(claimed) });
    }
    present(ctx, claimed, class).await
}

/// The ladder that the configuration has for the case now.
pub(super) async fn present(ctx: &Ctx, claimed: &Claimed, class: Option<Class>) -> Result<OnLadder> {
    let case = claimed.charge.dunning;
    let class = class.or(case.map(|case| case.class)).unwrap_or(Class::Generic);
    let (id, ladder) = write_down(ctx, ctx.config.dunning.of(&claimed.plan, class)).await?;
    Ok(OnLadder { id, ladder, zone: zone_of(claimed) })
}

fn zone_of(claimed: &Claimed) -> TimeZone {
    zone(&claimed.time_zone).unwrap_or(TimeZone::UTC)
}

/// An open case, and whether it can go on on the ladder of today.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// The charge.
    pub charge: ChargeId,
    /// Its plan.
    pub plan: String,
    /// The step that comes next, from 0.
    pub step: u32,
    /// Number of the ladder it goes.
    pub from: u32,
    /// Number of the present ladder.
    pub to: u32,
    /// Whether it has not gone further than the present ladder is long.
    pub possible: bool,
}

/// The open cases, of one plan or all, that go another ladder than the configuration has now.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn moves(ctx: &Ctx, plan: Option<&str>) -> Result<Vec<Move>> {
    const PAGE: i64 = 500;
    let mut found = Vec::new();
    for state in ["past_due", "link_open"] {
        let mut filter = ChargeFilter { state: Some(state.into()), limit: PAGE, ..ChargeFilter::default() };
        loop {
            let page = ctx.store.list_charges(&filter).await?;
            for one in page.iter().filter(|one| plan.is_none_or(|plan| plan == one.plan)) {
                let Some(case) = one.charge.dunning else { continue };
                let to = present(ctx, one, None).await?;
                let possible = to.ladder.step(case.step).is_some();
                let (charge, plan) = (one.charge.id, one.plan.clone());
                if to.id != case.ladder {
                    found.push(Move {
                        charge,
                        plan,
                        step: case.step,
                        from: case.ladder.0,
                        to: to.id.0,
                        possible,
                    });
                }
            }
            if i64::try_from(page.len()).unwrap_or(PAGE) < PAGE {
                break;
            }
            filter.offset += PAGE;
        }
    }
    Ok(found)
}

async fn on_record(ctx: &Ctx, id: LadderId) -> Result<Option<Arc<Ladder>>> {
    let known = &ctx.ladders.by_id;
    if let Some(ladder) = known.read().ok().and_then(|known| known.get(&id).cloned()) {
        return Ok(Some(ladder));
    }
    let found = ctx.store.ladder(id).await?.map(Arc::new);
    if let (Some(ladder), Ok(mut known)) = (&found, known.write()) {
        known.insert(id, ladder.clone());
    }
    Ok(found)
}

/// The number under which a ladder is on record, from now on at the latest.
pub(super) async fn write_down(ctx: &Ctx, ladder: &Ladder) -> Result<(LadderId, Arc<Ladder>)> {
    let known = &ctx.ladders.ids;
    if let Some(written) = known.read().ok().and_then(|known| known.get(ladder).cloned()) {
        return Ok(written);
    }
    let written = (ctx.store.ensure_ladder(ladder, ctx.now()).await?, Arc::new(ladder.clone()));
    if let Ok(mut known) = known.write() {
        known.insert(ladder.clone(), written.clone());
    }
    Ok(written)
}

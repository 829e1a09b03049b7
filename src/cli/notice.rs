//! What a charge that was never tried waits for, in words.

use anyhow::Result;
use jiff::Timestamp;

use super::show;
use crate::billing::charge::State;
use crate::store::{Claimed, Notice, Store};

/// What happens next to a charge that its customer is told of first; `None`: its notice is no reason to wait.
pub(super) async fn next(store: &Store, one: &Claimed) -> Result<Option<String>> {
    let State::Due { at } = &one.charge.state else { return Ok(None) };
    let Some(notice) = store.notice_of(one.charge.id).await?.filter(|notice| notice.waived == 0) else {
        return Ok(None);
    };
    let plans = store.plan_revisions().await?;
    let terms = plans.into_iter().find(|plan| plan.plan == one.plan && plan.revision == one.revision);
    let told_at = notice.done_at.and_then(|secs| Timestamp::from_second(secs).ok());
    Ok(Some(match (notice.state.as_str(), told_at, terms) {
        ("done", Some(told_at), Some(plan)) => {
            let from = plan.terms.after_notice(told_at).max(*at);
            let (told, from) = (show::instant(told_at.as_second()), show::instant(from.as_second()));
            format!("collect from {from}: the customer was told of it {told}")
        }
        ("pending", ..) => untold(&notice),
        _ => "a person must look: the customer could not be told of it".to_owned(),
    }))
}

fn untold(notice: &Notice) -> String {
    let why = notice.error.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("tell the customer first: the mail server has not accepted the notice yet{why}")
}

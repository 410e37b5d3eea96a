//! What a recipient has already: the earlier releases of a project, where people have the same pseudonyms.

use almoner_model::ReleaseId;

use super::{Case, manifest_of, members, package_folder};
use crate::flows::access::AccessError;
use crate::flows::question::{DataContext, DataError};
use crate::risk::Earlier;
use crate::state::{read, records};

/// The releases of the case's project to its recipient that stand in the ledger before the decision, in their order.
///
/// # Errors
/// A conflict while one is being completed; if one cannot be read.
pub(super) fn earlier(
    ctx: &DataContext<'_>,
    case: &Case,
    id: &ReleaseId,
) -> Result<Vec<(ReleaseId, Earlier)>, DataError> {
    let wanted = case.permit.wanted();
    let mut all: Vec<records::Release> = read::all(&ctx.access.state(), "release")?;
    all.retain(|r| r.body.project == wanted.project && r.body.recipient == wanted.recipient);
    all.retain(|r| r.body.release != *id && r.origin.seq < case.permitted.as_of);
    all.sort_by_key(|r| r.origin.seq);
    let of = |r: &records::Release| {
        let release = &r.body.release;
        if !package_folder(ctx.releases, release).exists() {
            return Err(AccessError::Conflict(format!("release {release} is not complete; try again")).into());
        }
        let report = manifest_of(ctx, release)?.risk.report;
        let recoding = serde_json::from_value(report["recoding"].clone());
        let recoding =
            recoding.map_err(|_| DataError::failed("the report of an earlier release does not read"))?;
        let people: Result<Vec<i64>, _> =
            members(ctx, release)?.members.iter().map(|m| m.pseudonym.parse::<i64>()).collect();
        let mut people =
            people.map_err(|_| DataError::failed("a member of an earlier release has no number"))?;
        people.sort_unstable();
        Ok((release.clone(), Earlier { recoding, people }))
    };
    all.iter().map(of).collect()
}

//! Everything there is over HTTP, on one screen. The OpenAPI description is made from this table.

use utoipa_actix_web::service_config::ServiceConfig;

use super::api::{
    consents, contributors, counts, datasets, downloads, erasures, health, ingests, invitations, jobs,
    ledger, legal_bases, me, processing_activities, projects, releases, requests, tokens, uploads, uses,
    vocabularies, withdrawals,
};

/// Registers every operation.
#[rustfmt::skip]
pub fn routes(config: &mut ServiceConfig<'_>) {
    config
        // Is it there, is it ready, how is it doing
        .service(health::live::health).service(health::ready::ready).service(health::metrics::metrics)
        // The ledger, for anybody
        .service(ledger::checkpoint::checkpoint).service(ledger::vkey::vkey).service(ledger::handovers::handovers)
        .service(ledger::tile::tile)
        .service(ledger::entries::entries).service(ledger::entry::entry)
        .service(ledger::proof::proof).service(ledger::receipt::receipt).service(ledger::consistency::consistency)
        .service(ledger::witnesses::witnesses).service(ledger::events::events)
        // and what is under it, for boards
        .service(ledger::payloads::payloads)
        // and its key
        .service(ledger::rotate::rotate)
        // Who may come in
        .service(tokens::create::create).service(tokens::list::list).service(tokens::revoke::revoke)
        // Hospitals and their rules
        .service(contributors::register::register).service(contributors::list::list)
        .service(contributors::read::read).service(contributors::change::change)
        .service(contributors::contract::contract)
        .service(legal_bases::record::record).service(legal_bases::list::list).service(legal_bases::end::end)
        // Exports arrive and become datasets
        .service(uploads::create::create).service(uploads::list::list).service(uploads::read::read)
        .service(uploads::write::write).service(uploads::commit::commit).service(uploads::discard::discard)
        .service(ingests::run::run)
        .service(vocabularies::load::load).service(vocabularies::list::list).service(vocabularies::remap::remap)
        .service(datasets::list::list).service(datasets::read::read)
        .service(datasets::versions::versions).service(datasets::reports::reports)
        // Patients decide, through their hospital
        .service(consents::record::record).service(consents::batch::batch).service(consents::import::import)
        .service(withdrawals::record::record).service(invitations::issue::issue)
        .service(invitations::list::list).service(invitations::revoke::revoke)
        // and for themselves
        .service(invitations::redeem::redeem)
        .service(me::identity::identity).service(me::choices::choices).service(me::uses::uses)
        .service(me::disclosures::disclosures)
        .service(me::decide::decide).service(me::withdraw::withdraw)
        // What is kept of a patient is destroyed
        .service(erasures::request::request).service(erasures::list::list)
        // Researchers ask, committees decide
        .service(projects::create::create).service(projects::list::list).service(projects::read::read)
        .service(counts::ask::ask).service(counts::list::list)
        .service(requests::submit::submit).service(requests::list::list).service(requests::show::read)
        .service(requests::decide::decide).service(requests::terms::terms)
        .service(requests::permit::permit)
        // Releases leave
        .service(releases::build::build).service(releases::list::list).service(releases::show::read)
        .service(releases::manifest::manifest).service(releases::evidence::evidence_pack)
        .service(releases::gate::gate).service(releases::downloads::downloads)
        .service(releases::recalls::recalls)
        .service(releases::download::download).service(downloads::fetch::fetch)
        .service(downloads::describe::describe).service(downloads::close::close)
        // What was done with it all
        .service(uses::list::list).service(processing_activities::list::list)
        // Long work
        .service(jobs::list::list).service(jobs::read::read).service(jobs::events::events).service(jobs::cancel::cancel);
}

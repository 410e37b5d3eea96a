//! Everything there is over HTTP, on one screen. The OpenAPI description is made from this table.

use utoipa_actix_web::service_config::ServiceConfig;

use super::api::{health, jobs, ledger, me, tokens, uploads};

/// Registers every operation.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config
        // Is it there, is it ready, how is it doing
        .service(health::live::health)
        .service(health::ready::ready)
        .service(health::metrics::metrics)
        // The ledger, for anybody
        .service(ledger::checkpoint::checkpoint)
        .service(ledger::vkey::vkey)
        // Who one is
        .service(me::identity::identity)
        // Tokens
        .service(tokens::create::create)
        .service(tokens::list::list)
        .service(tokens::revoke::revoke)
        // Exports arrive
        .service(uploads::create::create)
        .service(uploads::list::list)
        .service(uploads::read::read)
        .service(uploads::write::write)
        .service(uploads::commit::commit)
        .service(uploads::discard::discard)
        // Long work
        .service(jobs::list::list)
        .service(jobs::read::read)
        .service(jobs::events::events)
        .service(jobs::cancel::cancel);
}

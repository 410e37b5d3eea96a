//! Who is calling, and whether they may: the [`Caller`] extractor.
//!
//! A handler takes `Caller<SomePermission>` as its first argument; it is extracted before the body is read, so nobody
//! without the permission learns whether a body would have been accepted. A token stands in `Authorization: Bearer`;
//! requests over the data folder's Unix socket without one are the operator's, because only the operator's account can
//! open that socket. A token that is shown and does not work is an error everywhere, also where none is needed.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use almoner_model::{ContributorId, ProjectId, SubjectId};

use super::error::Problem;
use crate::app::App;
use crate::events::Actor;
use crate::flows::participant::Participant;
use crate::flows::uses::Viewer;
use crate::flows::{self, Act};

pub mod roles;

pub use roles::{Permission, Role};

/// Marks a connection over the data folder's Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct LocalPeer;

/// Somebody, recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// In which capacity.
    pub role: Role,
    /// Public id of the token; `local` over the Unix socket, `none` without one.
    pub id: String,
    /// The contributors or projects it is limited to; for participants the hospital that invited them.
    pub scope: Vec<String>,
    /// The person, for participants.
    pub subject: Option<SubjectId>,
}

impl Principal {
    /// As the ledger names it.
    pub fn actor(&self) -> Actor {
        Actor { role: self.role.as_str().into(), id: self.id.clone() }
    }

    /// Whose uses of data it may see.
    pub fn viewer(&self) -> Viewer {
        match self.role {
            Role::Operator => Viewer::Everything,
            Role::Board if self.scope.is_empty() => Viewer::Everything,
            Role::Board | Role::Contributor => {
                Viewer::Contributors(self.scope.iter().filter_map(|s| s.parse().ok()).collect())
            }
            Role::Researcher => Viewer::Projects(self.scope.iter().filter_map(|s| s.parse().ok()).collect()),
            Role::Participant | Role::Public => Viewer::Projects(Vec::new()),
        }
    }

    /// Whether it may act for this contributor. A board that sees all speaks for none that its token does not name.
    pub fn speaks_for(&self, contributor: &ContributorId) -> bool {
        let named = self.role != Role::Board || !self.scope.is_empty();
        named && self.covers_contributor(contributor)
    }

    /// Whether it may look into what is this contributor's.
    pub fn covers_contributor(&self, contributor: &ContributorId) -> bool {
        match self.role {
            Role::Operator => true,
            Role::Board => self.scope.is_empty() || self.scope.iter().any(|s| s == contributor.as_str()),
            Role::Contributor => self.scope.iter().any(|s| s == contributor.as_str()),
            Role::Researcher | Role::Participant | Role::Public => false,
        }
    }

    /// Whether it may act for, or look into, this project.
    pub fn covers_project(&self, project: &ProjectId) -> bool {
        match self.role {
            Role::Operator => true,
            Role::Researcher => self.scope.iter().any(|s| s == project.as_str()),
            Role::Board | Role::Contributor | Role::Participant | Role::Public => false,
        }
    }
}

/// A caller that has the permission `P`.
#[derive(Debug)]
pub struct Caller<P> {
    principal: Principal,
    idempotency_key: Option<String>,
    permission: PhantomData<fn() -> P>,
}

impl<P> std::ops::Deref for Caller<P> {
    type Target = Principal;
    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<P> Caller<P> {
    /// This call as an act: the same one again when it carries the same `Idempotency-Key`.
    pub fn act(&self, app: &App) -> Act {
        match &self.idempotency_key {
            Some(key) => Act::repeated(&app.keys, self.principal.actor(), key.as_bytes()),
            None => Act::new(self.principal.actor(), &*app.entropy),
        }
    }

    /// The contributor to act for: the one named, or the only one of the caller.
    ///
    /// # Errors
    /// 403 if the caller may not act for it, 422 if none is named and there is not exactly one.
    pub fn contributor(&self, named: Option<ContributorId>) -> Result<ContributorId, Problem> {
        let only = match self.scope.as_slice() {
            [one] if self.role != Role::Operator => one.parse().ok(),
            _ => None,
        };
        let contributor = named
            .or(only)
            .ok_or_else(|| Problem::unacceptable("Name the contributor.").at("/contributor"))?;
        if self.speaks_for(&contributor) {
            Ok(contributor)
        } else {
            Err(Problem::denied("Your token is not for this contributor."))
        }
    }

    /// # Errors
    /// 403 if the caller may not act for `project`.
    pub fn for_project(&self, project: &ProjectId) -> Result<(), Problem> {
        if self.covers_project(project) {
            Ok(())
        } else {
            Err(Problem::denied("Your token is not for this project."))
        }
    }
}

impl<P> Caller<P> {
    /// The person who calls.
    ///
    /// # Errors
    /// 403 if it is not a participant.
    pub fn person(&self) -> Result<Participant, Problem> {
        let hospital = self.scope.first().and_then(|id| id.parse().ok());
        match (self.subject, hospital) {
            (Some(subject), Some(hospital)) => Ok(Participant { subject, hospital }),
            _ => Err(Problem::denied("This is for participants.")),
        }
    }

    /// That the call comes over the data folder's Unix socket.
    ///
    /// # Errors
    /// 403 otherwise.
    pub fn at_the_machine(&self) -> Result<(), Problem> {
        if self.role == Role::Operator && self.id == "local" {
            Ok(())
        } else {
            Err(Problem::denied("This is done at the server's own machine, with the `almoner` command."))
        }
    }
}

impl<P: Permission> FromRequest for Caller<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(admit::<P>(request))
    }
}

fn admit<P: Permission>(request: &HttpRequest) -> Result<Caller<P>, Problem> {
    let principal = recognise(request)?;
    if !P::ROLES.contains(&principal.role) {
        return Err(match principal.role {
            Role::Public => Problem::unauthenticated("This needs a token: `Authorization: Bearer alm_…`."),
            role => Problem::denied(format!("A token of the role {role} does not permit this.")),
        });
    }
    let key = request.headers().get("idempotency-key").and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
    // The same key on another operation is another act.
    let place = request.match_pattern().unwrap_or_default();
    let idempotency_key = key.map(|key| format!("{} {place}\0{}\0{key}", request.method(), request.path()));
    Ok(Caller { principal, idempotency_key, permission: PhantomData })
}

/// Who is calling. The answer is kept with the request, so that log lines and other extractors do not ask again.
///
/// # Errors
/// 401 if a token is shown that does not work.
pub fn recognise(request: &HttpRequest) -> Result<Principal, Problem> {
    if let Some(known) = request.extensions().get::<Arc<Principal>>() {
        return Ok(Principal::clone(known));
    }
    let principal = look_up(request)?;
    request.extensions_mut().insert(Arc::new(principal.clone()));
    Ok(principal)
}

/// Whether the caller would still be recognised as the same: its token works. For answers that last.
pub fn still_recognised(request: &HttpRequest, principal: &Principal) -> bool {
    look_up(request).is_ok_and(|now| now == *principal)
}

fn look_up(request: &HttpRequest) -> Result<Principal, Problem> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        let local = request.conn_data::<LocalPeer>().is_some();
        let (role, id) = if local { (Role::Operator, "local") } else { (Role::Public, "none") };
        return Ok(Principal { role, id: id.into(), scope: Vec::new(), subject: None });
    };
    let unusable = || Problem::unauthenticated("The token is unknown, has expired or was ended.");
    let (scheme, shown) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(unusable)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unusable());
    }
    let app =
        request.app_data::<web::Data<App>>().ok_or_else(|| Problem::fault("the app is not attached"))?;
    if let Some(record) = app.tokens().find(shown.trim()).map_err(Problem::from)? {
        let role = record.role.parse().map_err(Problem::fault)?;
        return Ok(Principal { role, id: record.id, scope: record.scope, subject: None });
    }
    participant(app, shown.trim())?.ok_or_else(unusable)
}

/// The person whose token somebody shows. The ledger keeps its digest only.
fn participant(app: &App, shown: &str) -> Result<Option<Principal>, Problem> {
    let found = flows::invitation::find(&app.access(), shown)?;
    Ok(found.map(|(id, who)| Principal {
        role: Role::Participant,
        id: format!("inv_{id}"),
        scope: vec![who.hospital.to_string()],
        subject: Some(who.subject),
    }))
}

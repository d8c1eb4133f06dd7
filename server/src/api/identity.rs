//! Where people sign in, and who the caller is.

use axum::Json;
use axum::extract::State;
use domain::access::Scope;
use protocol::identity::{IdentityInfo, IdentityProvider, Whoami};
use protocol::rest::{Data, ErrorBody};

use super::{App, Caller};

/// Where people sign in.
#[utoipa::path(get, path = "/v1/identity", responses((status = 200, body = Data<IdentityInfo>)))]
pub async fn info(State(app): State<App>) -> Json<Data<IdentityInfo>> {
    Json(Data { data: IdentityInfo { providers: app.identity_providers().to_vec() } })
}

/// Who the caller is, and what they may do.
#[utoipa::path(
    get, path = "/v1/whoami",
    responses((status = 200, body = Data<Whoami>), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn whoami(caller: Caller) -> Json<Data<Whoami>> {
    Json(Data {
        data: Whoami {
            user: caller.user.to_string(),
            role: caller.role.to_string(),
            teams: caller.teams.iter().cloned().collect(),
            scopes: caller.scopes.iter().map(|scope: Scope| scope.to_string()).collect(),
            by: caller.by.kind().to_owned(),
            which: caller.by.which(),
        },
    })
}

/// What of a provider's configuration a client needs.
pub fn wire(name: &str, settings: &::identity::Settings) -> IdentityProvider {
    IdentityProvider {
        name: name.to_owned(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        scopes: settings.scopes.clone(),
        parameters: settings.parameters.clone(),
        redirect_url: settings.redirect_url.clone(),
        token: settings.token.as_str().to_owned(),
    }
}

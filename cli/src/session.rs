//! Whoever has signed in, to a client: a token for every call, renewed before it ends.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use identity::discovery::FetchError;
use identity::login::{Client as Provider, LoginError};
use protocol::client::{Bearer, ClientError};
use secrecy::SecretString;
use server::config::Env;
use tokio::sync::Mutex;
use url::Url;

use crate::context::{Context, now};
use crate::credentials::{Age, Credentials, Locked, Login};
use crate::failure::Failure;

/// A login in use.
#[derive(Debug)]
pub struct Session {
    server: Url,
    user: String,
    env: Env,
    login: Mutex<Login>,
}

impl Session {
    /// The login at a server, if there is one.
    pub fn of(cx: &Context, server: &Url) -> Result<Option<Session>, Failure> {
        let all = Credentials::load(&cx.env)?;
        Ok(all.login(server).map(|login| Session {
            server: server.clone(),
            user: login.user.clone(),
            env: cx.env.clone(),
            login: Mutex::new(login.clone()),
        }))
    }

    /// Who has signed in.
    pub fn user(&self) -> &str {
        &self.user
    }

    async fn renewed(&self) -> Result<SecretString, ClientError> {
        // One at a time in this process; the file's lock does the same among processes.
        let mut ours = self.login.lock().await;
        if ours.age(now()) == Age::Fresh {
            return Ok(ours.token().clone());
        }
        let mut locked = Locked::open(&self.env).await.map_err(|failure| signed_out(failure.message))?;
        match locked.all.login(&self.server) {
            Some(kept) => *ours = kept.clone(),
            None => return Err(signed_out(format!("you have signed out of {}", self.server))),
        }
        if ours.age(now()) == Age::Fresh {
            return Ok(ours.token().clone());
        }
        match renew(&ours).await {
            Ok(login) => {
                *ours = login.clone();
                locked.all.renew(&self.server, login);
                locked.save().map_err(|failure| signed_out(failure.message))?;
                Ok(ours.token().clone())
            }
            // It is good for a little longer.
            Err(_) if ours.age(now()) == Age::Ending => Ok(ours.token().clone()),
            Err(error) => {
                let transient = matches!(
                    error,
                    LoginError::Fetch(
                        FetchError::Unreachable { .. } | FetchError::Status { status: 500.., .. }
                    )
                );
                let why = format!("renewing your session at {}: {error}", self.server);
                Err(ClientError::SignedOut { why, transient })
            }
        }
    }
}

async fn renew(login: &Login) -> Result<Login, LoginError> {
    let refresh = login.refresh_token().ok_or(LoginError::Over)?;
    let provider = Provider::discover(login.at()).await?;
    let tokens = provider.refresh(refresh, now()).await?;
    Ok(login.clone().renewed(tokens, now()))
}

fn signed_out(why: String) -> ClientError {
    ClientError::SignedOut { why, transient: false }
}

impl Bearer for Session {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, ClientError>> {
        self.renewed().boxed()
    }
}

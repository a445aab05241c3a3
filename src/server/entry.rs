//! How connections are let in: TLS, logins, and the guard each gets.

use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::socket::Socket;
use super::tls::{self, TlsError};
use crate::config::{Config, ConfigError};
use crate::limits;
use crate::security::access::Access;
use crate::security::guard::Guard;
use crate::security::{Denied, Door, DoorError};
use crate::session::Login;

/// How connections are let in, made before anyone is served.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Everybody is let in where there are no users.
    users: Option<Users>,
    /// What listeners with TLS need.
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Clone, Debug)]
struct Users {
    door: Arc<Door>,
    access: Arc<Access>,
    /// Passwords that may be verified now: each takes a processor and much memory.
    logins: Arc<Semaphore>,
}

/// Why nobody could be let in.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file of users cannot be used.
    #[error(transparent)]
    Users(#[from] DoorError),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Entry {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// [`EntryError`]: the first that cannot be used.
    pub fn new(config: &Config) -> Result<Self, EntryError> {
        let users = if config.security.has_users() {
            let door = Arc::new(Door::open(&config.security.users)?);
            let logins = Arc::new(Semaphore::new(limits::LOGINS_MAX));
            Some(Users { door, access: Arc::new(config.rights()?), logins })
        } else {
            None
        };
        let tls = if config.has_tls()? { Some(tls::server_config(&config.tls)?) } else { None };
        Ok(Self { users, tls })
    }

    /// Whether connections must say who they are.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// What speaks on a socket that was accepted.
    pub(super) fn socket(&self, tcp: TcpStream, tls: bool) -> Result<Socket, rustls::Error> {
        if !tls {
            return Ok(Socket::plain(tcp));
        }
        let config = self.tls.clone().expect("read where a listener speaks TLS");
        Ok(Socket::tls(tcp, ServerConnection::new(config)?))
    }

    /// Lets somebody in by the certificate that was verified, otherwise by password.
    pub(super) async fn login(
        self,
        certificate: Option<String>,
        login: Login,
    ) -> Result<Guard, Denied> {
        let Users { door, access, logins } =
            self.users.expect("sessions ask where there are users");
        if let Some(Ok(who)) = certificate.map(|name| door.recognise(&name)) {
            return Ok(Guard::new(who, access));
        }
        let _permit = logins.acquire().await.expect("never closed");
        let verified = tokio::task::spawn_blocking(move || {
            door.login(login.name.as_deref(), login.password.as_bytes())
        });
        let who = verified.await.unwrap_or(Err(Denied::Wrong))?;
        Ok(Guard::new(who, access))
    }
}

//! A running broker's management API, as the commands that need it ask it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use leveret::backends::https;
use leveret::config::load;
use leveret::secret::Secret;
use serde_json::Value as Json;
use ureq::Agent;

use crate::exit;

/// Where the password may be, if it is in no file.
const PASSWORD: &str = "LEVERET_PASSWORD";

/// Where the API is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// Where the broker's management API is.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:15672")]
    url: String,
    /// Who asks.
    #[arg(long, global = true, default_value = "guest")]
    user: String,
    /// A file whose first line is the password [default: LEVERET_PASSWORD, else guest].
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Certificates to trust, for https [default: the system's].
    #[arg(long, global = true, value_name = "FILE")]
    cacertfile: Option<PathBuf>,
}

/// What the API has answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The document; null if there is none.
    pub(crate) document: Json,
}

impl ApiArgs {
    /// Sends a request to a path below `/api/`.
    ///
    /// # Errors
    /// The exit code and why, when there is no answer to be had.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, (u8, String)> {
        let config = |error| (exit::CONFIG, error);
        let password = match &self.password_file {
            Some(path) => load::read_passphrase(path)
                .map_err(|error| config(format!("{}: {error}", path.display())))?,
            None => Secret::from(std::env::var(PASSWORD).unwrap_or_else(|_| "guest".to_owned())),
        };
        let tls = https::trusting(self.cacertfile.as_deref()).map_err(config)?;
        let agent: Agent =
            Agent::config_builder().tls_config(tls).http_status_as_error(false).build().into();
        let login = [self.user.as_bytes(), b":", password.expose()].concat();
        let login = format!("Basic {}", STANDARD.encode(login));
        let url = format!("{}/api/{path}", self.url.trim_end_matches('/'));
        let failed = |error: ureq::Error| (exit::UNAVAILABLE, format!("{}: {error}", self.url));
        let sent = match (method, body) {
            ("GET", _) => agent.get(&url).header("authorization", login).call(),
            ("DELETE", _) => agent.delete(&url).header("authorization", login).call(),
            (_, None) => agent.put(&url).header("authorization", login).send_empty(),
            (_, Some(body)) => agent.put(&url).header("authorization", login).send(body),
        };
        let mut answer = sent.map_err(failed)?;
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        let document = serde_json::from_str(&text).unwrap_or(Json::String(text));
        Ok(Answer { status: answer.status().as_u16(), document })
    }
}

impl Answer {
    /// Whether it was done.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Why not, for people.
    pub(crate) fn reason(&self) -> String {
        let reason = self.document.get("reason").unwrap_or(&self.document);
        let text = reason.as_str().map_or_else(|| reason.to_string(), str::to_owned);
        format!("{}: {text}", self.status)
    }
}
